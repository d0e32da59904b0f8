//! The workloads and their names.

use crate::options::Options;
use crate::report::Figures;
use crate::{connections, conversations, flood, memory};
use std::path::Path;

/// A load, with its size.
#[derive(Clone, Copy)]
pub enum Workload {
    FanOut { clients: usize },
    Relay { pairs: usize },
    Stream { pairs: usize, bytes: usize },
    Flood { bytes: usize },
    Idle { clients: usize },
    Storm { clients: usize },
    Handshakes,
    Start,
}

impl Workload {
    /// Returns all workloads, in the order in which they run; with small numbers if that is asked for.
    pub fn all(is_quick: bool) -> Vec<Self> {
        let stream = |pairs, bytes| Self::Stream { pairs, bytes };
        let mut all = if is_quick {
            vec![
                Self::FanOut { clients: 32 },
                Self::Relay { pairs: 20 },
                stream(1, 64 << 10),
                stream(10, 1 << 10),
                Self::Flood { bytes: 64 },
                Self::Idle { clients: 50 },
                Self::Storm { clients: 50 },
            ]
        } else {
            vec![
                Self::FanOut { clients: 32 },
                Self::FanOut { clients: 500 },
                Self::FanOut { clients: 5000 },
                Self::Relay { pairs: 1 },
                Self::Relay { pairs: 200 },
                stream(1, 64 << 10),
                stream(1, 1 << 20),
                stream(100, 1 << 10),
                Self::Flood { bytes: 64 },
                Self::Flood { bytes: 64 << 10 },
                Self::Idle { clients: 2000 },
                Self::Storm { clients: 1000 },
            ]
        };
        all.extend([Self::Handshakes, Self::Start]);
        all
    }

    /// Returns the name without the size.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::FanOut { .. } => "fan-out",
            Self::Relay { .. } => "relay",
            Self::Stream { .. } => "stream",
            Self::Flood { .. } => "flood",
            Self::Idle { .. } => "idle",
            Self::Storm { .. } => "storm",
            Self::Handshakes => "handshakes",
            Self::Start => "start",
        }
    }

    /// Returns the name, with which the command line selects it.
    pub fn name(self) -> String {
        let kind = self.kind();
        match self {
            Self::Stream { pairs, bytes } => format!("{kind}-{pairs}x{bytes}"),
            Self::Relay { pairs: size }
            | Self::Flood { bytes: size }
            | Self::FanOut { clients: size }
            | Self::Idle { clients: size }
            | Self::Storm { clients: size } => format!("{kind}-{size}"),
            Self::Handshakes | Self::Start => kind.to_owned(),
        }
    }

    /// Returns the workload with this name.
    pub fn parse(name: &str) -> Option<Self> {
        let (kind, size) = name.rsplit_once('-')?;
        if let Some((pairs, bytes)) = size.split_once('x') {
            let (pairs, bytes) = (number(pairs)?, number(bytes)?);
            return (kind == "stream").then_some(Self::Stream { pairs, bytes });
        }
        let size = number(size)?;
        match kind {
            "fan-out" => Some(Self::FanOut { clients: size }),
            "relay" => Some(Self::Relay { pairs: size }),
            "flood" => Some(Self::Flood { bytes: size }),
            "idle" => Some(Self::Idle { clients: size }),
            "storm" => Some(Self::Storm { clients: size }),
            _ => None,
        }
    }

    /// Runs the workload on a daemon of its own.
    pub fn run(self, program: &Path, options: &Options) -> Result<Figures, String> {
        match self {
            Self::FanOut { clients } => conversations::fan_out(program, options, clients),
            Self::Relay { pairs } => conversations::relay(program, options, pairs),
            Self::Stream { pairs, bytes } => conversations::stream(program, options, pairs, bytes),
            Self::Flood { bytes } => flood::run(program, options, bytes),
            Self::Idle { clients } => memory::idle(program, options, clients),
            Self::Storm { clients } => memory::storm(program, options, clients),
            Self::Handshakes => connections::handshakes(program, options),
            Self::Start => connections::start(program, options),
        }
    }
}

/// Returns a size of at least 1.
fn number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|&number| number > 0)
}
