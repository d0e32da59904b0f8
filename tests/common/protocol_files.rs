//! The files for tests that each protocol has in its folder.

use serde::de::IgnoredAny;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use uuid::Uuid;

/// Reads a file that each protocol has in its folder. If it is missing, the panic says what to write.
pub fn protocol_file(protocol: &str, file: &str, content: &str) -> String {
    let path = format!("src/protocols/{protocol}/{file}");
    let absolute = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(&path);
    std::fs::read_to_string(absolute)
        .unwrap_or_else(|error| panic!("{path}: {error}. Write in it {content}"))
}

/// Reads the names of the JSON fields that messages of a protocol have or lack for reasons that no transcript can show,
/// such as the speed of the machine. A protocol without such fields has no such file.
pub fn optional_fields(protocol: &str) -> Vec<String> {
    let path = format!("src/protocols/{protocol}/tests/optional_fields.txt");
    let file = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path));
    let file = file.unwrap_or_default();
    let names = file.lines().filter(|line| !line.starts_with('#'));
    names.map(str::to_owned).collect()
}

/// Reads how two clients of a protocol meet (`Pair`).
pub fn pair_transcript(protocol: &str) -> String {
    protocol_file(
        protocol,
        "tests/pair.transcript",
        "how two clients of the protocol connect and meet; after an empty line, what one sends to the other, \
         with $text for its text, and what both then receive; after another empty line, if there is such a \
         message, the same for an answer (tests/README.md, \"Pairs\")",
    )
}

/// Returns the request target with which a new client of a protocol connects: that of the first client of a
/// pair, with a UUID for each name.
pub fn request_target(protocol: &str) -> String {
    let pair = pair_transcript(protocol);
    let target = pair
        .lines()
        .find_map(|line| Some(line.split_once(" connects to ")?.1));
    let target = target.unwrap_or_else(|| panic!("the pair of {protocol}: no client connects"));
    fill_names(target, &mut BTreeMap::new())
}

/// Replaces names such as `$code` by their values, which `values` has by name. A name that is new gets a UUID, which
/// is added. In a text that is JSON, the values are escaped.
pub fn fill_names(text: &str, values: &mut BTreeMap<String, String>) -> String {
    let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
    let mut parts = text.split('$');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_lowercase());
        let (name, rest) = part.split_at(end.unwrap_or(part.len()));
        assert!(!name.is_empty(), "a $ without a name: {text:.300}");
        let value = values.entry(format!("${name}"));
        let value = value.or_insert_with(|| Uuid::new_v4().to_string());
        if is_json {
            let quoted = json!(value).to_string();
            filled.push_str(&quoted[1..quoted.len() - 1]);
        } else {
            filled.push_str(value);
        }
        filled.push_str(rest);
    }
    filled
}
