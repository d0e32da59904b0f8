//! The sources of the settings of the process, and which of them holds.

use crate::realm::setting::SettingMap;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// A source of settings. A later one takes precedence over those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The declaration of the setting.
    Default,
    /// The configuration file.
    File,
    /// A variable of the environment.
    Environment,
    /// A flag of the command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// The settings that one source gives.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) source: Source,
    pub(super) values: SettingMap,
}

/// The settings of all sources.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    pub(super) values: SettingMap,
    /// Where each value comes from.
    pub(super) sources: BTreeMap<String, Source>,
}

/// Returns the value of each key from the highest source that has it.
pub(super) fn merge(mut layers: Vec<Layer>) -> Merged {
    layers.sort_by_key(|layer| layer.source);
    let mut merged = Merged::default();
    for Layer { source, values } in layers {
        for (key, value) in values {
            merged.sources.insert(key.clone(), source);
            merged.values.insert(key, value);
        }
    }
    merged
}

/// The value that a setting of the process has, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// The key.
    pub name: &'static str,
    /// The value as in the configuration.
    pub value: Value,
    /// Where it comes from.
    pub source: Source,
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.name, self.value, self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const ALL: [Source; 4] = [
        Source::Default,
        Source::File,
        Source::Environment,
        Source::Flag,
    ];

    fn layer(source: Source, values: &Value) -> Layer {
        let values = values.as_object().unwrap().clone();
        Layer { source, values }
    }

    #[test]
    fn a_flag_precedes_the_environment_that_the_file_and_that_the_default() {
        let merged = merge(vec![
            layer(Source::Flag, &json!({"a": 4})),
            layer(Source::File, &json!({"a": 2, "b": 2, "c": 2})),
            layer(Source::Environment, &json!({"a": 3, "b": 3})),
            layer(Source::Default, &json!({"a": 1, "b": 1, "c": 1, "d": 1})),
        ]);
        assert_eq!(
            Value::Object(merged.values),
            json!({"a": 4, "b": 3, "c": 2, "d": 1})
        );
        let sources: Vec<Source> = merged.sources.into_values().rev().collect();
        assert_eq!(sources, ALL);
    }

    #[test]
    fn null_is_a_value() {
        let merged = merge(vec![
            layer(Source::File, &json!({"a": 2})),
            layer(Source::Flag, &json!({"a": null})),
        ]);
        assert_eq!(Value::Object(merged.values), json!({"a": null}));
    }

    #[test]
    fn an_effective_setting_is_displayed_with_its_source() {
        let effective = Effective {
            name: "a",
            value: json!("b"),
            source: Source::Environment,
        };
        assert_eq!(effective.to_string(), "a = \"b\" (environment)");
    }

    proptest! {
        #[test]
        fn the_highest_source_that_has_a_key_holds_in_whatever_order_they_are_merged(
            keys in prop::collection::vec(prop::collection::btree_set("[a-c]", 0..3), 4),
            order in Just(ALL.to_vec()).prop_shuffle(),
        ) {
            let layer_of = |source: &Source| {
                let values = keys[*source as usize].iter().map(|key| (key.clone(), json!(*source as u8)));
                Layer { source: *source, values: values.collect() }
            };
            let merged = merge(order.iter().map(layer_of).collect());
            for key in ["a", "b", "c"] {
                let highest = ALL.into_iter().rev().find(|source| keys[*source as usize].contains(key));
                prop_assert_eq!(merged.sources.get(key).copied(), highest);
                let value = highest.map(|source| json!(source as u8));
                prop_assert_eq!(merged.values.get(key).cloned(), value);
            }
        }
    }
}
