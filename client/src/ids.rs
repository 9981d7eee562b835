//! Validated names: languages, versions, package references, digests, ids of jobs and tokens.
//!
//! Invariant: a value of one of these types satisfies its grammar; the only way in is `FromStr`
//! (serde uses it too). Nothing here knows which of them exist.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a word is not a valid id: what it is meant to be, the word, and the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not a valid {what}: {rule}")]
pub struct InvalidId {
    what: &'static str,
    word: String,
    rule: &'static str,
}

impl InvalidId {
    fn new(what: &'static str, word: &str, rule: &'static str) -> Self {
        // A hostile word may be megabytes long; an error message quotes its beginning.
        let word = word.chars().take(80).collect();
        Self { what, word, rule }
    }
}

/// Serde and `Display` through the string form, for types that have `as_str` or `Display`.
macro_rules! string_form {
    ($type:ident, $pattern:literal) => {
        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "description": Self::RULE,
                    "type": "string",
                    "pattern": $pattern,
                })
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidId;

            fn try_from(word: String) -> Result<Self, InvalidId> {
                word.parse()
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> Self {
                id.to_string()
            }
        }
    };
}

/// The name of a language or package: `[a-z0-9][a-z0-9._+#-]{0,63}` (packages.md, Repository index).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Language(String);

impl Language {
    const RULE: &str = "1 to 64 characters of a-z 0-9 . _ + # -, the first a letter or digit";

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Language {
    type Err = InvalidId;

    fn from_str(word: &str) -> Result<Self, InvalidId> {
        let first = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let rest = |c: u8| first(c) || b"._+#-".contains(&c);
        let bytes = word.as_bytes();
        if (1..=64).contains(&bytes.len()) && first(bytes[0]) && bytes[1..].iter().all(|&c| rest(c))
        {
            Ok(Self(word.to_owned()))
        } else {
            Err(InvalidId::new("language name", word, Self::RULE))
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_form!(Language, "^[a-z0-9][a-z0-9._+#-]{0,63}$");

/// An exact semver version, at most 64 characters (it becomes a file name).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(semver::Version);

impl Version {
    const RULE: &str = "a semver version such as 3.11.2, at most 64 characters";

    /// The parsed version.
    pub fn semver(&self) -> &semver::Version {
        &self.0
    }
}

impl FromStr for Version {
    type Err = InvalidId;

    fn from_str(word: &str) -> Result<Self, InvalidId> {
        let error = || InvalidId::new("version", word, Self::RULE);
        if word.len() > 64 {
            return Err(error());
        }
        semver::Version::parse(word).map(Self).map_err(|_| error())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

string_form!(Version, "^[0-9]+\\.[0-9]+\\.[0-9]+([-+][0-9A-Za-z.+-]+)?$");

/// One package: `language-version`, e.g. `python-3.11.2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PackageRef {
    /// The package's name.
    pub language: Language,
    /// Its exact version.
    pub version: Version,
}

impl PackageRef {
    /// Joins a name and a version.
    pub fn new(language: Language, version: Version) -> Self {
        Self { language, version }
    }
}

impl fmt::Display for PackageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.language, self.version)
    }
}

/// A sha256 digest, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    const RULE: &str = "64 lower-case hex digits (sha256)";

    /// Wraps the 32 bytes of a digest.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = InvalidId;

    fn from_str(word: &str) -> Result<Self, InvalidId> {
        let error = || InvalidId::new("digest", word, Self::RULE);
        let mut bytes = [0; 32];
        if word.bytes().any(|c| c.is_ascii_uppercase()) {
            return Err(error());
        }
        hex::decode_to_slice(word, &mut bytes).map_err(|_| error())?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

string_form!(Digest, "^[0-9a-f]{64}$");

/// The id of one job: 32 lower-case hex digits, chosen by the daemon and not guessable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl JobId {
    const RULE: &str = "32 lower-case hex digits";

    /// An id from 128 random bits.
    pub fn from_random(bits: u128) -> Self {
        Self(hex::encode(bits.to_be_bytes()))
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for JobId {
    type Err = InvalidId;

    fn from_str(word: &str) -> Result<Self, InvalidId> {
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if word.len() == 32 && word.bytes().all(digit) {
            Ok(Self(word.to_owned()))
        } else {
            Err(InvalidId::new("job id", word, Self::RULE))
        }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_form!(JobId, "^[0-9a-f]{32}$");

/// The id of one token: 16 lower-case hex digits. It names the token and is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(u64);

impl TokenId {
    const RULE: &str = "16 lower-case hex digits";

    /// An id from 64 random bits.
    pub fn from_random(bits: u64) -> Self {
        Self(bits)
    }
}

impl FromStr for TokenId {
    type Err = InvalidId;

    fn from_str(word: &str) -> Result<Self, InvalidId> {
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let bits = (word.len() == 16 && word.bytes().all(digit))
            .then(|| u64::from_str_radix(word, 16).ok())
            .flatten();
        bits.map(Self)
            .ok_or_else(|| InvalidId::new("token id", word, Self::RULE))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

string_form!(TokenId, "^[0-9a-f]{16}$");

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts<T: FromStr + fmt::Display>(words: &[&str]) {
        for word in words {
            let Ok(id) = word.parse::<T>() else {
                panic!("refused {word:?}")
            };
            assert_eq!(id.to_string(), *word);
        }
    }

    fn refuses<T: FromStr>(words: &[&str]) {
        for word in words {
            assert!(word.parse::<T>().is_err(), "accepted {word:?}");
        }
    }

    #[test]
    fn a_language_is_a_short_lower_case_word() {
        let longest = "a".repeat(64);
        let too_long = "a".repeat(65);
        accepts::<Language>(&["c", "c++", "c#", "python", "2", "f.sharp_9-x", &longest]);
        refuses::<Language>(&[
            "", "C", "+c", ".", "..", "a/b", "a b", "\u{e9}", "a\0", &too_long,
        ]);
    }

    #[test]
    fn a_version_is_exact() {
        accepts::<Version>(&["0.0.0", "3.11.2", "1.2.3-rc.1+build"]);
        refuses::<Version>(&[
            "",
            "3",
            "3.11",
            "v3.11.2",
            "^3.11.2",
            "1.2.3/../x",
            " 1.2.3",
        ]);
    }

    #[test]
    fn a_digest_is_lower_case_hex_of_32_bytes() {
        let good = "0123456789abcdef".repeat(4);
        accepts::<Digest>(&[&good]);
        refuses::<Digest>(&["", &good[1..], &good.to_uppercase(), &format!("{good}0")]);
    }

    #[test]
    fn a_job_id_round_trips() {
        let id = JobId::from_random(7);
        assert_eq!(id.to_string().parse(), Ok(id));
        refuses::<JobId>(&["", "7", "0123456789ABCDEF0123456789abcdef"]);
    }

    #[test]
    fn a_token_id_round_trips_with_its_zeros() {
        accepts::<TokenId>(&["0000000000000000", "00ff00ff00ff00ff", "ffffffffffffffff"]);
        refuses::<TokenId>(&["", "ff", "+0000000000000ff", "00FF00FF00FF00FF"]);
    }

    #[test]
    fn an_error_names_the_word_and_the_rule_and_stays_short() {
        let error = "X"
            .repeat(10_000)
            .parse::<Language>()
            .expect_err("upper case");
        let text = error.to_string();
        assert!(
            text.contains("language name") && text.contains("a-z"),
            "{text}"
        );
        assert!(text.len() < 250, "{text}");
    }
}
