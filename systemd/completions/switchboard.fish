# Completions of switchboard for fish: commands, flags, settings, and the protocols of the program that is installed.

function __switchboard_settings
    switchboard help 2>/dev/null | string replace -rf '^  ([a-z_]+) +(.*)' '$1\t$2'
end

function __switchboard_process_settings
    switchboard help 2>/dev/null | sed '/^$/q' | string replace -rf '^  ([a-z_]+) +(.*)' '$1=\t$2'
end

function __switchboard_protocols
    switchboard help 2>/dev/null | string replace -rf '^Settings of a (.*) listener:$' '$1'
end

set -l commands check defaults help token status clients kick ban unban bans
set -l first "not __fish_seen_subcommand_from $commands"
set -l configured "not __fish_seen_subcommand_from defaults help"

complete -c switchboard -f
complete -c switchboard -n $first -a check -d 'Check a configuration, and print what it comes to'
complete -c switchboard -n $first -a defaults -d 'Print the complete default configuration'
complete -c switchboard -n $first -a help -d 'Explain a setting, or list all'
complete -c switchboard -n $first -a token -d 'Print an access token, or what is in one'
complete -c switchboard -n $first -a status -d 'Print how the running daemon is'
complete -c switchboard -n $first -a clients -d 'List who is connected'
complete -c switchboard -n $first -a kick -d 'Close connections'
complete -c switchboard -n $first -a ban -d 'Refuse an address or a network'
complete -c switchboard -n $first -a unban -d 'End a ban'
complete -c switchboard -n $first -a bans -d 'List the bans'

complete -c switchboard -n $configured -s c -l config -r -F -d 'The configuration'
complete -c switchboard -n $configured -l listen -x -a '(__switchboard_protocols)=' -d 'Listen there instead'
complete -c switchboard -n $configured -l set -x -a '(__switchboard_process_settings)' -d 'A setting of the process'
complete -c switchboard -n $configured -s l -l log -x -a 'off error warn info debug' -d 'Least severe level that is logged'
complete -c switchboard -s h -l help -d 'Print a summary'
complete -c switchboard -s V -l version -d 'Print the version'

complete -c switchboard -n '__fish_seen_subcommand_from help' -a '(__switchboard_settings)'
complete -c switchboard -n '__fish_seen_subcommand_from ban' -l for -x -d 'How long, such as 30m, 1h or 7days'

complete -c switchboard -n '__fish_seen_subcommand_from token' -l check -d 'Print what is in a token'
complete -c switchboard -n '__fish_seen_subcommand_from token' -l listener -x -a '(__switchboard_protocols)' -d 'The listener that it is for'
complete -c switchboard -n '__fish_seen_subcommand_from token' -l expires -x -d 'Until when it is valid, such as 12h, 1d or never'
complete -c switchboard -n '__fish_seen_subcommand_from token' -l subject -x -d 'Whom it is for'
complete -c switchboard -n '__fish_seen_subcommand_from token' -l name -x -d 'The name that people see'
complete -c switchboard -n '__fish_seen_subcommand_from token' -l role -x -d 'What it is for'
complete -c switchboard -n '__fish_seen_subcommand_from token' -l audience -x -d 'Where it is for'
complete -c switchboard -n '__fish_seen_subcommand_from token' -l not-before -x -d 'From when it is valid'
