# Completions of switchboard for bash: commands, flags, settings, and the protocols of the program that is installed.

_switchboard() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command='' word
    # "=" is a word of its own, as in --config=FILE.
    if [ "$previous" = = ]; then previous=${COMP_WORDS[COMP_CWORD - 2]}; fi
    if [ "$current" = = ]; then current=; fi
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
        check | defaults | help | token | status | clients | kick | ban | unban | bans) command=$word ;;
        esac
    done

    COMPREPLY=()
    # What follows "=" is the value of a flag, or of a setting, which is not completed.
    if [[ " ${COMP_WORDS[*]:COMP_CWORD-1:2} " = *" = "* && $previous != -* ]]; then return; fi

    local settings protocols
    case $previous in
    -c | --config)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    -l | --log)
        mapfile -t COMPREPLY < <(compgen -W 'off error warn info debug' -- "$current")
        return
        ;;
    --set)
        settings=$(switchboard help 2>/dev/null | sed -n '/^Settings of the process/,/^$/s/^  \([a-z_]*\) .*/\1=/p')
        compopt -o nospace
        mapfile -t COMPREPLY < <(compgen -W "$settings" -- "$current")
        return
        ;;
    --listen | --listener)
        protocols=$(switchboard help 2>/dev/null | sed -n 's/^Settings of a \(.*\) listener:$/\1/p')
        if [ "$previous" = --listen ]; then
            protocols=$(sed 's/$/=/' <<<"$protocols")
            compopt -o nospace
        fi
        mapfile -t COMPREPLY < <(compgen -W "$protocols" -- "$current")
        return
        ;;
    --for | --expires | --not-before | --subject | --name | --role | --audience)
        return
        ;;
    esac

    local flags='-c --config --listen --set -l --log -h --help -V --version'
    case $command in
    '') mapfile -t COMPREPLY < <(compgen -W "check defaults help token status clients kick ban unban bans $flags" -- "$current") ;;
    help)
        settings=$(switchboard help 2>/dev/null | sed -n 's/^  \([a-z_]*\) .*/\1/p')
        mapfile -t COMPREPLY < <(compgen -W "$settings" -- "$current")
        ;;
    defaults) mapfile -t COMPREPLY < <(compgen -W '-h --help -V --version' -- "$current") ;;
    token)
        flags="--check --listener --expires --subject --name --role --audience --not-before $flags"
        mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$current")
        ;;
    ban) mapfile -t COMPREPLY < <(compgen -W "--for $flags" -- "$current") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$current") ;;
    esac
}

complete -F _switchboard switchboard
