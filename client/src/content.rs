//! Bytes in and out of the strings that JSON holds.
//!
//! Owns the base64 of the wire types: text goes as text, everything else encoded.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::api::{InputFile, OutputEncoding, OutputFile, StageResult, Stdin, TextEncoding};

/// A reply's string is not what its encoding promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} of the reply is not base64")]
pub struct InvalidContent {
    what: &'static str,
    #[source]
    source: base64::DecodeError,
}

impl InputFile {
    /// A file of any bytes: as text where it is UTF-8, else as base64.
    pub fn new(name: impl Into<String>, bytes: &[u8]) -> Self {
        Self {
            name: Some(name.into()),
            ..Self::unnamed(bytes)
        }
    }

    /// A file that the daemon names.
    pub fn unnamed(bytes: &[u8]) -> Self {
        let (content, encoding) = encode(bytes);
        Self {
            name: None,
            content,
            encoding,
        }
    }
}

impl From<&str> for Stdin {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&[u8]> for Stdin {
    fn from(bytes: &[u8]) -> Self {
        match encode(bytes) {
            (text, TextEncoding::Utf8) => Self::Text(text),
            (content, encoding) => Self::Encoded { content, encoding },
        }
    }
}

impl OutputEncoding {
    /// The bytes of a reply's text that was asked for in this encoding.
    pub fn decode(self, text: &str) -> Result<Cow<'_, [u8]>, InvalidContent> {
        match self {
            Self::Utf8 => Ok(Cow::Borrowed(text.as_bytes())),
            Self::Base64 => decode("an output", text).map(Cow::Owned),
        }
    }
}

impl StageResult {
    /// What was written to standard output, in bytes; `encoding` is what the request asked for.
    pub fn stdout_bytes(&self, encoding: OutputEncoding) -> Result<Cow<'_, [u8]>, InvalidContent> {
        encoding.decode(&self.stdout)
    }

    /// What was written to standard error, in bytes; `encoding` is what the request asked for.
    pub fn stderr_bytes(&self, encoding: OutputEncoding) -> Result<Cow<'_, [u8]>, InvalidContent> {
        encoding.decode(&self.stderr)
    }
}

impl OutputFile {
    /// The file's bytes.
    pub fn bytes(&self) -> Result<Vec<u8>, InvalidContent> {
        decode("a file", &self.content)
    }
}

fn encode(bytes: &[u8]) -> (String, TextEncoding) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), TextEncoding::Utf8),
        Err(_) => (STANDARD.encode(bytes), TextEncoding::Base64),
    }
}

fn decode(what: &'static str, text: &str) -> Result<Vec<u8>, InvalidContent> {
    STANDARD
        .decode(text)
        .map_err(|source| InvalidContent { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_as_text_and_bytes_as_base64() {
        let text = InputFile::new("a", "h\u{e9}".as_bytes());
        assert_eq!(
            (text.content.as_str(), text.encoding),
            ("h\u{e9}", TextEncoding::Utf8)
        );
        let bytes = InputFile::new("a", &[0xff, 0x00]);
        assert_eq!(
            (bytes.content.as_str(), bytes.encoding),
            ("/wA=", TextEncoding::Base64)
        );
        assert_eq!(Stdin::from("x"), Stdin::Text("x".into()));
        let encoded = Stdin::Encoded {
            content: "/w==".into(),
            encoding: TextEncoding::Base64,
        };
        assert_eq!(Stdin::from(&[0xff][..]), encoded);
    }

    #[test]
    fn outputs_come_back_as_the_bytes_they_were() {
        let decoded = |encoding: OutputEncoding, text| encoding.decode(text).map(Cow::into_owned);
        assert_eq!(decoded(OutputEncoding::Utf8, "/w=="), Ok(b"/w==".to_vec()));
        assert_eq!(decoded(OutputEncoding::Base64, "/w=="), Ok(vec![0xff]));
        let error = decoded(OutputEncoding::Base64, "?").expect_err("not base64");
        assert_eq!(error.to_string(), "an output of the reply is not base64");
    }
}
