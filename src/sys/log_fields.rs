//! Records with fields. In JSON each field is a key of its own; the message says the same for people.

use log::kv::Value;
use log::{Level, Record};
use std::fmt::{Arguments, Display};

/// A field of a record; `None`: the record has none of this name.
pub(crate) type Field<'a> = Option<(&'static str, Value<'a>)>;

/// Returns a field whose value is a number or a text.
pub(crate) fn field<'a>(name: &'static str, value: impl Into<Value<'a>>) -> Field<'a> {
    Some((name, value.into()))
}

/// Returns a field whose value is the text that this displays.
pub(crate) fn text<'a>(name: &'static str, value: &'a impl Display) -> Field<'a> {
    Some((name, Value::from_display(value)))
}

/// Logs a record.
pub(crate) fn log(level: Level, fields: &[Field<'_>], message: Arguments<'_>) {
    if level > log::max_level() {
        return;
    }
    let mut record = Record::builder();
    record.level(level).target(env!("CARGO_PKG_NAME"));
    log::logger().log(&record.key_values(&fields).args(message).build());
}
