//! The form of a line of the log, and the loggers that write it.
//!
//! JSON is written by femme, whose lines have the fields of a record as they are. Text, for people and for the
//! journal, is written here: one record is one line, whatever its message holds. The message says what the fields
//! say, so the fields are in JSON alone.

use super::log_lines;
use super::streams::{AsStream, file_id};
use humantime::format_rfc3339_millis;
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde::Deserialize;
use serde_json::json;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

/// The crate whose records have no target in front of their message.
const OWN_TARGET: &str = env!("CARGO_PKG_NAME");

/// The value of the setting `log_format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// [`LineFormat::Journal`] if the log goes to the journal, otherwise [`LineFormat::Text`].
    Auto,
    /// Always this one.
    Fixed(LineFormat),
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// Time, level, message.
    Text,
    /// Priority and message, as journald reads them from a stream (sd-daemon(3)); it adds the time.
    Journal,
    /// An object of JSON.
    Json,
}

impl LogFormat {
    /// All values, in the order in which they are named.
    pub const ALL: [Self; 4] = [
        Self::Auto,
        Self::Fixed(LineFormat::Text),
        Self::Fixed(LineFormat::Journal),
        Self::Fixed(LineFormat::Json),
    ];

    /// Returns the name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fixed(LineFormat::Text) => "text",
            Self::Fixed(LineFormat::Journal) => "journal",
            Self::Fixed(LineFormat::Json) => "json",
        }
    }

    /// Returns the form of the lines for a log that is written to `output`.
    pub fn resolve(self, output: impl AsStream) -> LineFormat {
        match self {
            Self::Fixed(format) => format,
            Self::Auto if is_journal(output) => LineFormat::Journal,
            Self::Auto => LineFormat::Text,
        }
    }
}

/// Returns whether this output is the journal. `JOURNAL_STREAM` has the device and the inode of the stream that
/// systemd connected (systemd.exec(5)). A program whose output was redirected inherits the variable, too.
pub(super) fn is_journal(output: impl AsStream) -> bool {
    let variable = std::env::var_os("JOURNAL_STREAM");
    variable.is_some_and(|variable| is_stream(&variable, output))
}

/// Returns whether `DEVICE:INODE` are those of this output.
fn is_stream(variable: &OsStr, output: impl AsStream) -> bool {
    let Some((device, inode)) = variable.to_str().and_then(|text| text.split_once(':')) else {
        return false;
    };
    file_id(output).is_some_and(|(own_device, own_inode)| {
        device.parse() == Ok(own_device) && inode.parse() == Ok(own_inode)
    })
}

/// Starts to log to standard output what is at least as severe as `level`.
///
/// # Panics
/// If the log was started before.
pub fn start(format: LineFormat, level: LevelFilter) {
    static TEXT: LineLogger = LineLogger(LineFormat::Text);
    static JOURNAL: LineLogger = LineLogger(LineFormat::Journal);
    static JSON: LineLogger = LineLogger(LineFormat::Json);
    let logger = match format {
        LineFormat::Text => &TEXT,
        LineFormat::Journal => &JOURNAL,
        LineFormat::Json if log_lines::TAKES_STANDARD_OUTPUT => return femme::with_level(level),
        LineFormat::Json => &JSON,
    };
    log::set_logger(logger).expect("the log is started once");
    log::set_max_level(level);
}

/// Writes each record as a line, without its fields.
struct LineLogger(LineFormat);

impl Log for LineLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut line = line(
                self.0,
                SystemTime::now(),
                record.level(),
                record.target(),
                *record.args(),
            );
            line.push('\n');
            log_lines::write(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// Returns a line of the log, without its end.
pub(super) fn line(
    format: LineFormat,
    now: SystemTime,
    level: Level,
    target: &str,
    message: fmt::Arguments<'_>,
) -> String {
    let now = now.max(UNIX_EPOCH);
    let mut line = String::new();
    // Writing to a String does not fail.
    let _ = match format {
        LineFormat::Text => write!(line, "{} {level:<5} ", format_rfc3339_millis(now)),
        LineFormat::Journal => write!(line, "<{}>", priority(level)),
        LineFormat::Json => {
            let time = now.duration_since(UNIX_EPOCH).unwrap_or_default();
            let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let message = message.to_string();
            // What femme writes of a record without fields.
            let record = json!({"level": femme_level(level), "time": time, "msg": message});
            return record.to_string();
        }
    };
    let own = target.split("::").next() == Some(OWN_TARGET);
    let _ = match own {
        true => write!(OneLine(&mut line), "{message}"),
        false => write!(OneLine(&mut line), "{target}: {message}"),
    };
    line
}

/// Returns the level and the message of a line that was written in this format, if it is a warning or an error.
pub(super) fn read_warning(format: LineFormat, line: &str) -> Option<(Level, Cow<'_, str>)> {
    /// What femme writes, without the fields of the record.
    #[derive(Deserialize)]
    struct Json<'a> {
        level: u8,
        #[serde(borrow)]
        msg: Cow<'a, str>,
    }
    let find =
        |is: &dyn Fn(Level) -> bool| [Level::Warn, Level::Error].into_iter().find(|it| is(*it));
    match format {
        LineFormat::Text => {
            let (_time, rest) = line.split_once(' ')?;
            // The word has five columns, and a blank follows.
            let (word, message) = rest.split_at_checked(6)?;
            let level = find(&|level| level.as_str() == word.trim_end())?;
            Some((level, message.into()))
        }
        LineFormat::Journal => {
            let (number, message) = line.strip_prefix('<')?.split_once('>')?;
            let level = find(&|level| number.parse() == Ok(priority(level)))?;
            Some((level, message.into()))
        }
        LineFormat::Json => {
            let json: Json<'_> = serde_json::from_str(line).ok()?;
            let level = find(&|level| femme_level(level) == json.level)?;
            Some((level, json.msg))
        }
    }
}

/// Returns the priority of syslog(3).
const fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Returns the number that femme's JSON has for a level.
const fn femme_level(level: Level) -> u8 {
    match level {
        Level::Error => 50,
        Level::Warn => 40,
        Level::Info => 30,
        Level::Debug => 20,
        Level::Trace => 10,
    }
}

/// Appends text with its control characters escaped: no message can begin another line, or change a terminal.
struct OneLine<'a>(&'a mut String);

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() {
                self.0.extend(c.escape_default());
            } else {
                self.0.push(c);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A line of this message, a thousand seconds after the epoch.
    fn line_of(format: LineFormat, level: Level, target: &str, message: &str) -> String {
        let now = UNIX_EPOCH + Duration::from_millis(1_000_250);
        line(format, now, level, target, format_args!("{message}"))
    }

    #[test]
    fn text_has_the_time_in_rfc_3339_and_the_level_as_a_word() {
        let text = |level| line_of(LineFormat::Text, level, "switchboard::net", "done");
        assert_eq!(text(Level::Info), "1970-01-01T00:16:40.250Z INFO  done");
        assert_eq!(text(Level::Error), "1970-01-01T00:16:40.250Z ERROR done");
    }

    #[test]
    fn the_journal_gets_priorities_and_no_time() {
        for (level, expected) in [
            (Level::Error, "<3>done"),
            (Level::Warn, "<4>done"),
            (Level::Info, "<6>done"),
            (Level::Debug, "<7>done"),
        ] {
            let journal = line_of(LineFormat::Journal, level, "switchboard", "done");
            assert_eq!(journal, expected);
        }
    }

    #[test]
    fn json_has_the_number_of_the_level_and_the_time_in_milliseconds() {
        let json = line_of(LineFormat::Json, Level::Warn, "switchboard", "a \"b\"\n");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let expected = json!({"level": 40, "time": 1_000_250, "msg": "a \"b\"\n"});
        assert_eq!(json, expected);
    }

    #[test]
    fn a_message_of_another_crate_has_its_target() {
        let of = |target| line_of(LineFormat::Journal, Level::Debug, target, "done");
        assert_eq!(
            of("tungstenite::protocol"),
            "<7>tungstenite::protocol: done"
        );
        assert_eq!(of("switchboard_x"), "<7>switchboard_x: done");
    }

    #[test]
    fn a_record_is_one_line_whatever_its_message_holds() {
        let message = "a\nb\r\u{1b}[2J\u{85}";
        for format in [LineFormat::Text, LineFormat::Journal] {
            let line = line_of(format, Level::Info, "switchboard", message);
            assert!(!line.contains(char::is_control), "{line:?}");
        }
        // JSON leaves the controls above ASCII as they are.
        let json = line_of(LineFormat::Json, Level::Info, "switchboard", message);
        assert!(!json.contains(|c: char| c.is_ascii_control()), "{json:?}");
    }

    #[test]
    fn a_warning_is_read_from_its_line_in_each_format() {
        for format in [LineFormat::Text, LineFormat::Journal, LineFormat::Json] {
            let read = |level, message| {
                let line = line_of(format, level, "switchboard", message);
                read_warning(format, &line).map(|(level, message)| (level, message.into_owned()))
            };
            for level in [Level::Warn, Level::Error] {
                let message = "\"<4>\" WARN  é";
                assert_eq!(read(level, message), Some((level, message.to_owned())));
            }
            for level in [Level::Info, Level::Debug] {
                assert_eq!(read(level, "1 WARN  <4>"), None, "{format:?}");
            }
            for nonsense in ["", " ", "WARN", "<4", "{\"level\":40}", "[40]", "x WARN"] {
                assert_eq!(read_warning(format, nonsense), None, "{nonsense}");
            }
        }
    }

    #[test]
    fn a_warning_is_read_from_a_line_of_femme_with_fields() {
        let line = r#"{"level":50,"time":1,"msg":"a \"b\"","address":"127.0.0.1:1","bytes":3}"#;
        let expected = Some((Level::Error, "a \"b\"".into()));
        assert_eq!(read_warning(LineFormat::Json, line), expected);
    }

    #[test]
    fn a_clock_before_the_epoch_is_no_panic() {
        let now = UNIX_EPOCH - Duration::from_secs(1);
        let text = line(
            LineFormat::Text,
            now,
            Level::Info,
            "switchboard",
            format_args!("x"),
        );
        assert_eq!(text, "1970-01-01T00:00:00.000Z INFO  x");
    }

    #[test]
    #[cfg(unix)]
    fn the_journal_is_known_by_device_and_inode() {
        use std::os::unix::fs::MetadataExt;
        let file = std::fs::File::open("/dev/null").unwrap();
        let metadata = file.metadata().unwrap();
        let (device, inode) = (metadata.dev(), metadata.ino());
        let is = |variable: String| is_stream(OsStr::new(&variable), &file);
        assert!(is(format!("{device}:{inode}")));
        assert!(!is(format!("{device}:{}", inode + 1)));
        assert!(!is(format!("{}:{inode}", device + 1)));
        for nonsense in ["", ":", "8:", "a:b", "8", "1:2:3", "-1:2"] {
            assert!(!is(nonsense.to_owned()), "{nonsense}");
        }
        let json = LogFormat::Fixed(LineFormat::Json);
        assert_eq!(json.resolve(&file), LineFormat::Json);
    }
}
