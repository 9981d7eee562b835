//! Sizes and times with their units: parsed from text (`64M`, `3s`), plain numbers on the wire.
//! Rates are text in both.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a text is not a size or a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}, write {example}")]
pub struct InvalidUnit {
    what: &'static str,
    text: String,
    example: &'static str,
}

/// A number of bytes. Text: `10`, `64K`, `64M`, `2G` (powers of 1024, optional `iB`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// `count` KiB.
    pub const fn kib(count: u64) -> Self {
        Self(count * 1024)
    }

    /// `count` MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count * 1024 * 1024)
    }

    /// As a buffer length; saturates where `usize` is narrower.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Bytes {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        const UNITS: [(&str, u64); 14] = [
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
            ("K", 1 << 10),
            ("M", 1 << 20),
            ("G", 1 << 30),
            ("T", 1 << 40),
            ("k", 1 << 10),
            ("m", 1 << 20),
            ("g", 1 << 30),
            ("t", 1 << 40),
            ("B", 1),
            ("", 1),
        ];
        parse(text, &UNITS).map(Self).ok_or_else(|| InvalidUnit {
            what: "size",
            text: text.to_owned(),
            example: "a number of bytes, or 64K, 64M, 2G",
        })
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            let whole = self.0 >> shift;
            if whole > 0 {
                return match ((self.0 - (whole << shift)) * 10) >> shift {
                    0 => write!(f, "{whole} {unit}"),
                    tenths => write!(f, "{whole}.{tenths} {unit}"),
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// A time span in milliseconds. Text: `1500`, `1500ms`, `3s`, `2m`, `1h`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Millis(pub u64);

impl From<Millis> for Duration {
    fn from(time: Millis) -> Self {
        Self::from_millis(time.0)
    }
}

impl From<Duration> for Millis {
    fn from(time: Duration) -> Self {
        Self(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }
}

impl FromStr for Millis {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        const UNITS: [(&str, u64); 5] = [
            ("ms", 1),
            ("s", 1000),
            ("m", 60_000),
            ("h", 3_600_000),
            ("", 1),
        ];
        parse(text, &UNITS).map(Self).ok_or_else(|| InvalidUnit {
            what: "time",
            text: text.to_owned(),
            example: "milliseconds, or 1500ms, 3s, 2m, 1h",
        })
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ms @ 0..1000 => write!(f, "{ms} ms"),
            ms => match (ms / 1000, ms % 1000 / 10) {
                (seconds, 0) => write!(f, "{seconds} s"),
                (seconds, hundredths) => write!(f, "{seconds}.{hundredths:02} s"),
            },
        }
    }
}

/// How often something may happen. Text: `10/s`, `600/m`, `5000/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    times: u32,
    per: Per,
}

/// What a rate is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Per {
    Second,
    Minute,
    Hour,
}

impl Rate {
    /// How often within [`Self::period`]; at least once, at most a million times.
    pub fn times(self) -> u32 {
        self.times
    }

    /// A second, a minute or an hour.
    pub fn period(self) -> Duration {
        match self.per {
            Per::Second => Duration::from_secs(1),
            Per::Minute => Duration::from_mins(1),
            Per::Hour => Duration::from_hours(1),
        }
    }
}

impl FromStr for Rate {
    type Err = InvalidUnit;

    fn from_str(text: &str) -> Result<Self, InvalidUnit> {
        let parts = text.split_once('/').and_then(|(times, per)| {
            let per = match per.trim() {
                "s" => Per::Second,
                "m" => Per::Minute,
                "h" => Per::Hour,
                _ => return None,
            };
            let times = times.trim();
            let plain = times.bytes().all(|c| c.is_ascii_digit());
            let times = plain.then(|| times.parse().ok()).flatten()?;
            (1..=1_000_000)
                .contains(&times)
                .then_some(Self { times, per })
        });
        parts.ok_or_else(|| InvalidUnit {
            what: "rate",
            text: text.to_owned(),
            example: "10/s, 600/m or 5000/h, at least 1 and at most 1000000",
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.per {
            Per::Second => "s",
            Per::Minute => "m",
            Per::Hour => "h",
        };
        write!(f, "{}/{per}", self.times)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Rate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "How often something may happen: 10/s, 600/m, 5000/h.",
            "type": "string",
            "pattern": "^[1-9][0-9]{0,5}/[smh]$",
        })
    }
}

impl TryFrom<String> for Rate {
    type Error = InvalidUnit;

    fn try_from(text: String) -> Result<Self, InvalidUnit> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

/// Digits and one of `units` (the first that fits as a suffix), multiplied without overflow.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?;
    let digits = digits.trim_end();
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_a_unit() {
        let check = |text: &str, bytes: u64| assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        check("0", 0);
        check("10B", 10);
        check("64K", 64 << 10);
        check("64 MiB", 64 << 20);
        check("2g", 2 << 30);
        check("16777215T", 16_777_215 << 40);
        for bad in [
            "",
            "K",
            "-1",
            "1.5M",
            "64X",
            "0x10",
            "16777216T",
            "99999999999999999999",
        ] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read_with_and_without_a_unit() {
        let check = |text: &str, ms: u64| assert_eq!(text.parse(), Ok(Millis(ms)), "{text}");
        check("1500", 1500);
        check("1500ms", 1500);
        check("3s", 3000);
        check("2m", 120_000);
        check("1 h", 3_600_000);
        for bad in ["", "s", "-1", "1.5s", "3 d"] {
            assert!(bad.parse::<Millis>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rate_is_written_as_it_is_read() {
        for text in ["1/s", "600/m", "1000000/h"] {
            let rate: Rate = text.parse().expect(text);
            assert_eq!(rate.to_string(), text);
        }
        let rate: Rate = "90 / m".parse().expect("spaces are fine");
        assert_eq!((rate.times(), rate.period()), (90, Duration::from_mins(1)));
        for bad in [
            "",
            "10",
            "0/s",
            "1000001/s",
            "+1/s",
            "-1/s",
            "1.5/s",
            "1/d",
            "/s",
        ] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn display_is_for_people() {
        assert_eq!(Bytes(5).to_string(), "5 B");
        assert_eq!(Bytes(1536).to_string(), "1.5 KiB");
        assert_eq!(Bytes(u64::MAX).to_string(), "17179869183.9 GiB");
        assert_eq!(Millis(999).to_string(), "999 ms");
        assert_eq!(Bytes::mib(64).to_string(), "64 MiB");
        assert_eq!(Millis(3210).to_string(), "3.21 s");
        assert_eq!(Millis(3009).to_string(), "3 s");
    }
}
