//! `switchboard token`: access tokens that a listener admits, and what it says about those that it refuses.

use crate::common::tokens::{HS256, OTHER_SECRET, SECRET, seconds_from_now, sign, token};
use crate::common::{TemporaryPath, merge, private_file, program, stderr};
use data_encoding::BASE64URL_NOPAD as BASE64URL;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// The configuration of a listener of each protocol with this `access`, and one of FastChat without.
fn config(access: &Value) -> TemporaryPath {
    let protocols = ["peerjs", "peerdrop", "loudsync", "workspace"];
    let with_access = |protocol| json!({"protocol": protocol, "access": access});
    let mut listeners: Vec<Value> = protocols.map(with_access).into();
    listeners.push(json!({"protocol": "fastchat"}));
    private_file(&json!({ "listeners": listeners }).to_string())
}

/// The configuration of a listener with [`SECRET`].
fn plain() -> TemporaryPath {
    config(&json!({"secret": SECRET}))
}

/// Returns the command `token` with these arguments, each a word.
fn command(config: &TemporaryPath, line: &str) -> Command {
    let mut command = program();
    command.arg("token").args(line.split_whitespace());
    command.arg("--config").arg(&**config);
    command
}

/// Runs it with a token on standard input.
fn run_with_input(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may not be read.
    let _ = writeln!(stdin, "{input}");
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// Has the listener of a protocol check a token.
fn check(config: &TemporaryPath, protocol: &str, token: &str) -> Output {
    let line = format!("--check --listener {protocol}");
    run_with_input(command(config, &line), token)
}

/// Makes a token, and returns it with its claims.
#[track_caller]
fn make(config: &TemporaryPath, line: &str) -> (String, Value) {
    let output = command(config, line).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    assert_eq!(stderr(&output), "");
    let text = String::from_utf8(output.stdout).unwrap();
    let token = text.strip_suffix('\n').unwrap().to_owned();
    let claims = BASE64URL.decode(token.split('.').nth(1).unwrap().as_bytes());
    let claims = serde_json::from_slice(&claims.unwrap()).unwrap();
    (token, claims)
}

/// Asserts that a token is right for the listener of a protocol, and returns what the command prints.
#[track_caller]
fn assert_right(config: &TemporaryPath, protocol: &str, token: &str) -> String {
    let output = check(config, protocol, token);
    assert_eq!(
        (output.status.code(), stderr(&output)),
        (Some(0), String::new())
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Asserts that the listener refuses a token for this reason.
#[track_caller]
fn assert_refused(config: &TemporaryPath, token: &str, reason: &str) {
    let output = check(config, "peerjs", token);
    assert_eq!(output.status.code(), Some(1), "{reason}: {output:?}");
    let expected = format!("switchboard: peerjs on localhost:9000 refuses it: {reason}");
    let stderr = stderr(&output);
    assert!(stderr.starts_with(&expected), "{stderr} is not {expected}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

/// Asserts that the arguments or the configuration are wrong, and how.
#[track_caller]
fn assert_wrong(config: &TemporaryPath, line: &str, problem: &str) {
    let output = command(config, line).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
    assert_eq!(output.stdout, b"");
    let stderr = stderr(&output);
    let is_it = stderr.starts_with(&format!("switchboard: {problem}"));
    assert!(is_it, "{line}: {stderr} is not {problem}");
}

#[test]
fn a_token_says_what_was_asked_for_and_is_right_for_the_listener() {
    let config = config(&json!({"secret": SECRET, "audience": "chat.example"}));
    let before = seconds_from_now(0);
    let (token, claims) = make(
        &config,
        "--listener peerdrop --subject ann --name Ann --role create --role join --not-before 0s --expires 1d",
    );
    let time = |name: &str| claims[name].as_i64().unwrap();
    assert!((before..=seconds_from_now(0)).contains(&time("iat")));
    assert_eq!(time("nbf"), time("iat"));
    assert_eq!(time("exp"), time("iat") + 86_400);
    assert_eq!(
        claims,
        json!({
            "aud": "chat.example", "sub": "ann", "name": "Ann", "roles": ["create", "join"],
            "iat": time("iat"), "nbf": time("nbf"), "exp": time("exp"),
        })
    );
    let text = assert_right(&config, "peerdrop", &token);
    for part in [
        "alg    \"HS256\"\n",
        "aud    \"chat.example\"\n",
        "roles  [\"create\",\"join\"]\n",
        "Z (in 23h 59m ",
        "its signature, audience and times are right for peerdrop on localhost:9081 until ",
        ", 60 s after \"exp\"; signed with the secret\n",
    ] {
        // A second may have passed, or none.
        let text = text.replace("(in 1day)", "(in 23h 59m 59s)");
        assert!(text.contains(part), "{text} lacks {part}");
    }
    // As an operand, too.
    let mut with_operand = command(&config, "--check --listener peerdrop");
    let output = with_operand.arg(&token).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn what_is_not_asked_for_is_not_in_a_token() {
    let (token, mut claims) = make(&plain(), "--listener peerjs --expires never");
    claims["iat"].take();
    assert_eq!(claims, json!({ "iat": null }));
    let text = assert_right(&plain(), "peerjs", &token);
    assert!(
        text.contains("its signature and times are right for peerjs on localhost:9000 for ever; "),
        "{text}"
    );
    let (_, claims) = make(
        &plain(),
        "--listener peerjs --expires 2030-01-31T12:00:00Z --audience chat",
    );
    assert_eq!(
        (&claims["exp"], &claims["aud"]),
        (&json!(1_896_091_200), &json!("chat"))
    );
}

/// The configuration of listeners for an audience.
fn for_chat() -> TemporaryPath {
    config(&json!({"secret": SECRET, "audience": "chat"}))
}

/// Returns a token for that audience with these claims.
fn of(claims: Value) -> String {
    token(&merge(json!({"sub": "ann", "aud": "chat"}), &claims))
}

#[test]
fn a_token_of_a_wrong_form_is_told_what_would_be_right() {
    let (config, right) = (for_chat(), of(json!({})));
    assert_right(&config, "peerjs", &right);
    let with_header = |header: &str| sign(header, r#"{"aud":"chat"}"#, SECRET);
    for (token, reason) in [
        (
            "ann".to_owned(),
            "it must have three parts of base64url with dots between them, not 1",
        ),
        (
            format!("{right}.x"),
            "it must have three parts of base64url with dots between them, not 4",
        ),
        (
            format!("{right}=="),
            "its signature must be base64url, with - and _ instead of + and /, and without =",
        ),
        (format!("a{right}"), "its header must be"),
        (with_header("[]"), "its header must be a JSON object"),
        (
            sign(HS256, "ann", SECRET),
            "its payload must be a JSON object",
        ),
    ] {
        assert_refused(&config, &token, reason);
    }
}

#[test]
fn a_token_with_a_wrong_header_is_told_what_would_be_right() {
    let config = for_chat();
    let with_header = |header: &str| sign(header, r#"{"aud":"chat"}"#, SECRET);
    for (token, reason) in [
        (
            with_header("{}"),
            "its header must have \"alg\", which is \"HS256\"",
        ),
        (
            with_header(r#"{"alg":"none"}"#),
            "its \"alg\" must be \"HS256\", not \"none\"",
        ),
        (
            with_header(r#"{"alg":"RS256"}"#),
            "its \"alg\" must be \"HS256\", not \"RS256\"",
        ),
        (
            with_header(r#"{"alg":"HS256","crit":["exp"]}"#),
            "its header has \"crit\"; leave it out",
        ),
    ] {
        assert_refused(&config, &token, reason);
    }
}

#[test]
fn a_token_with_a_wrong_signature_is_told_with_what_to_sign() {
    let (config, right) = (for_chat(), of(json!({})));
    let (signed_part, signature) = right.rsplit_once('.').unwrap();
    for (token, reason) in [
        (
            format!("{signed_part}."),
            "it is not signed with the secret of this listener; give the issuer the same",
        ),
        (
            sign(HS256, "{}", OTHER_SECRET),
            "it is not signed with the secret of this listener",
        ),
        (
            sign(HS256, "{}", &format!("{SECRET}\n")),
            "it is signed with the secret and a line end; sign with the secret as it is written",
        ),
        (
            format!("{signed_part}x.{signature}"),
            "it is not signed with the secret of this listener",
        ),
    ] {
        assert_refused(&config, &token, reason);
    }
}

#[test]
fn a_token_with_a_claim_of_a_wrong_type_is_told_which_and_what_would_be_right() {
    let config = for_chat();
    for (token, reason) in [
        (of(json!({"sub": 7})), "its \"sub\" must be a text, not 7"),
        (
            of(json!({"name": null})),
            "its \"name\" must be a text, not null",
        ),
        (
            of(json!({"roles": "host"})),
            "its \"roles\" must be a list of texts, not \"host\"",
        ),
        (
            of(json!({"aud": [7]})),
            "its \"aud\" must be a text or a list of texts, not [7]",
        ),
        (
            of(json!({"exp": "2030"})),
            "its \"exp\" must be a number of seconds since 1970, not \"2030\"",
        ),
        (
            sign(HS256, r#"{"sub":"a","sub":"b"}"#, SECRET),
            "a claim stands twice in it; write each once",
        ),
    ] {
        assert_refused(&config, &token, reason);
    }
}

#[test]
fn a_token_for_others_or_another_time_or_too_long_is_told_so() {
    let config = for_chat();
    for (token, reason) in [
        (
            of(json!({"aud": "mail"})),
            "its \"aud\" must be \"chat\" or have it in a list; it is \"mail\"",
        ),
        (
            token(&json!({"sub": "ann"})),
            "its \"aud\" must be \"chat\" or have it in a list; it is missing",
        ),
        (
            of(json!({"exp": 1000})),
            "it has expired: \"exp\" is 1970-01-01T00:16:40Z (",
        ),
        (
            of(json!({"nbf": 1_764_331_200_000_u64})),
            "it is not valid yet: \"nbf\" is after the year 9999 (probably in milliseconds; write seconds)",
        ),
        (
            of(json!({"x": "x".repeat(7000)})),
            "the token must have at most 8192 bytes",
        ),
    ] {
        assert_refused(&config, &token, reason);
    }
}

#[test]
fn a_secret_that_the_issuer_has_decoded_is_recognized() {
    let decoded = "a text of thirty-two bytes or so";
    for encoded in [
        data_encoding::BASE64.encode(decoded.as_bytes()),
        data_encoding::BASE64URL_NOPAD.encode(decoded.as_bytes()),
    ] {
        let config = config(&json!({ "secret": encoded }));
        let token = sign(HS256, "{}", decoded);
        assert_refused(
            &config,
            &token,
            "it is signed with what the secret is decoded from base64; ",
        );
    }
    let hexadecimal = data_encoding::HEXLOWER.encode(decoded.as_bytes());
    let config = config(&json!({ "secret": hexadecimal }));
    let reason = "it is signed with what the secret is decoded from hexadecimal digits; ";
    assert_refused(&config, &sign(HS256, "{}", decoded), reason);
}

#[test]
fn what_is_in_a_token_is_shown_also_if_it_is_refused_and_cannot_change_the_terminal() {
    let claims = "{\"sub\":\"\u{202e}\\u001b[2J\",\"iat\":1000,\"other\":[1]}";
    let output = check(&plain(), "peerjs", &sign(HS256, claims, OTHER_SECRET));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains(['\u{202e}', '\u{1b}']), "{text:?}");
    for part in [
        "sub    \"\\u{202e}\\u001b[2J\"\n",
        "1970-01-01T00:16:40Z (",
        "other  [1]\n",
    ] {
        assert!(text.contains(part), "{text} lacks {part}");
    }
}

#[test]
fn while_secrets_are_changed_the_first_one_signs_and_both_are_admitted() {
    let file = private_file(&format!("{OTHER_SECRET}\n\n  {SECRET}\n"));
    let both = config(&json!({"secret_file": file.to_str().unwrap()}));
    let (new, _) = make(&both, "--listener peerjs --subject ann --expires 1h");
    let text = assert_right(&both, "peerjs", &new);
    assert!(
        text.contains("signed with the first of two secrets, which is the new one"),
        "{text}"
    );
    let text = assert_right(&both, "peerjs", &token(&json!({"sub": "ann"})));
    assert!(
        text.contains("signed with the second of two secrets, which is the old one"),
        "{text}"
    );
    let neither = sign(HS256, "{}", "neither");
    assert_refused(
        &both,
        &neither,
        "it is not signed with any of the 2 secrets of this listener",
    );
    assert_refused(
        &plain(),
        &new,
        "it is not signed with the secret of this listener",
    );
}

#[test]
fn a_listener_is_named_by_its_protocol_or_its_address_if_there_are_several() {
    let of = |address: &str, secret: &str| {
        let access = json!({ "secret": secret });
        json!({"protocol": "peerjs", "address": address, "access": access})
    };
    let listeners = json!([of("localhost:9000", SECRET), of("*:9001", OTHER_SECRET)]);
    let config = private_file(&json!({ "listeners": listeners }).to_string());
    let secret_of = |name: &str| {
        let (token, _) = make(&config, &format!("--listener {name} --expires 1h"));
        let (signed_part, _) = token.rsplit_once('.').unwrap();
        let claims = BASE64URL.decode(signed_part.split('.').nth(1).unwrap().as_bytes());
        let claims = String::from_utf8(claims.unwrap()).unwrap();
        let secrets = [SECRET, OTHER_SECRET].into_iter();
        secrets
            .filter(|it| sign(HS256, &claims, it) == token)
            .collect::<Vec<_>>()
    };
    for (name, secret) in [
        ("localhost:9000", SECRET),
        ("peerjs=localhost:9000", SECRET),
        ("*:9001", OTHER_SECRET),
        ("PeerJS=*:9001", OTHER_SECRET),
    ] {
        assert_eq!(secret_of(name), [secret], "{name}");
    }
    assert_wrong(
        &config,
        "--listener peerjs --expires 1h",
        "--listener: 2 listeners are \"peerjs\"; write one of peerjs=localhost:9000, peerjs=*:9001\n",
    );
    assert_wrong(
        &config,
        "--listener fastchat --expires 1h",
        "--listener: the configuration has no listener \"fastchat\"; it has peerjs=localhost:9000, peerjs=*:9001\n",
    );
}

#[test]
fn a_time_that_no_token_can_have_is_told_what_to_write() {
    let config = for_chat();
    for (line, problem) in [
        (
            "--listener peerjs",
            "token: write how long it is valid, such as --expires 1d, or --expires never",
        ),
        (
            "--listener peerjs --expires soon",
            "--expires: write a time from now on, such as 12h, 1d or 90s, or one in UTC, such as \
             2030-01-31T12:00:00Z, or never, instead of \"soon\"",
        ),
        (
            "--listener peerjs --expires 1d --not-before never",
            "--not-before: write a time from now on, such as 12h, 1d or 90s, or one in UTC, such as \
             2030-01-31T12:00:00Z, instead of \"never\"",
        ),
        (
            "--listener peerjs --expires 999999999999years",
            "--expires: write a time",
        ),
        (
            "--listener peerjs --expires 1h --not-before 2h",
            "--not-before: write a time that is before --expires\n",
        ),
    ] {
        assert_wrong(&config, line, problem);
    }
}

#[test]
fn what_no_token_can_say_is_told_what_to_write() {
    let config = for_chat();
    for (line, problem) in [
        (
            "",
            "token: write for which listener of the configuration, such as --listener peerjs",
        ),
        (
            "--listener peerjs --expires 1d --expires 2d",
            "--expires: write this once; it is given twice",
        ),
        (
            "--listener peerjs --expires 1d --subject=",
            "--subject: write a text that is not empty",
        ),
        (
            "--listener peerjs --expires 1d ann",
            "unexpected argument \"ann\"",
        ),
        (
            "--listener peerjs --expires 1d --for 1h",
            "--for can be used with ban alone",
        ),
        (
            "--listener peerjs --expires 1d --audience mail",
            "--audience: leave this out, or write \"chat\": peerjs on localhost:9000 refuses tokens for \
             another audience",
        ),
        (
            "--listener fastchat --expires 1d",
            "fastchat on localhost:8000 reads no tokens: write \"access\": {\"secret_file\": \
             \"/etc/switchboard/access.secret\"} for this listener into the configuration",
        ),
        (
            "--listener peerjs --expires 1d --role host",
            "--role \"host\": peerjs knows no roles; leave this out\n",
        ),
        (
            "--listener loudsync --expires 1d --role hots",
            "--role \"hots\": loudsync knows host alone\n",
        ),
        (
            "--listener peerdrop --expires 1d --role create --role host",
            "--role \"host\": peerdrop knows create and join alone\n",
        ),
    ] {
        assert_wrong(&config, line, problem);
    }
}

#[test]
fn an_argument_that_may_be_a_token_is_not_shown_and_one_that_is_too_long_is_not_made() {
    let config = for_chat();
    // An argument that is in the wrong place may be a token, and is not shown.
    let (token, _) = make(&config, "--listener peerjs --expires 1d");
    let misplaced = format!("--listener peerjs --expires 1d {token}");
    assert_wrong(&config, &misplaced, "unexpected argument \"***\"…; see");
    let long = format!(
        "--listener peerjs --expires 1d --subject {}",
        "x".repeat(7000)
    );
    assert_wrong(
        &config,
        &long,
        "token: write shorter texts: the token would have 9",
    );
}

#[test]
fn what_cannot_be_checked_is_told_what_to_write() {
    let config = for_chat();
    for (line, problem) in [
        (
            "--check",
            "token: write for which listener of the configuration",
        ),
        (
            "--check --listener peerjs --subject ann",
            "--subject cannot be used with --check, which reads what a token says",
        ),
        (
            "--check --listener peerjs a.b.c d",
            "unexpected argument \"d\"",
        ),
        (
            "--check --listener peerjs",
            "token: write a token on standard input, or behind --check",
        ),
    ] {
        assert_wrong(&config, line, problem);
    }
}

#[test]
fn other_commands_have_no_flags_of_token() {
    for flag in ["--listener=peerjs", "--subject=ann", "--check"] {
        let output = program().args(["check", flag]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let problem = format!(
            "{} can be used with token alone",
            flag.split('=').next().unwrap()
        );
        assert!(stderr(&output).contains(&problem), "{output:?}");
    }
}

#[test]
fn what_is_probably_not_meant_is_warned_of_whatever_the_protocol_does_with_it() {
    let config = plain();
    let warnings = |protocol: &str, claims: Value| -> Vec<String> {
        let text = assert_right(&config, protocol, &token(&claims));
        let warnings = text
            .lines()
            .filter_map(|line| line.strip_prefix("warning: "));
        warnings.map(str::to_owned).collect()
    };
    let nobody = "it has no \"sub\": its client is nobody in particular, and proves no identity";
    for (protocol, claims, expected) in [
        ("peerjs", json!({"sub": "ann"}), &[][..]),
        ("peerjs", json!({"name": "Ann"}), &[nobody]),
        ("peerdrop", json!({"roles": ["create", "join"]}), &[]),
        (
            "loudsync",
            json!({"sub": "mac", "roles": ["host", "hots\n"]}),
            &["its \"roles\" have \"hots\\n\": loudsync knows host alone"],
        ),
        ("workspace", json!({"username": "ann"}), &[]),
        (
            "workspace",
            json!({"roles": ["join"]}),
            &[
                "its \"roles\" have \"join\": workspace knows no roles; leave this out",
                "it has neither \"sub\" nor \"username\": its client is nobody in particular, and proves no identity",
            ],
        ),
    ] {
        assert_eq!(warnings(protocol, claims), expected, "{protocol}");
    }
}
