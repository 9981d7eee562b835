//! Why no package can be made of an image.

use super::super::super::fetch::FetchError;
use super::super::super::files::PathError;
use super::super::tar_reader::{TarError, told};
use super::credentials::CredentialsError;
use super::reference::ReferenceError;

/// Why no package can be made of an image.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// Its name is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// What is there is no image that can be taken.
    #[error("cannot take the image {image}: {reason}")]
    Image {
        /// Which.
        image: String,
        /// Why not.
        reason: String,
    },
    /// A layer is not what the image says, or holds what no layer may.
    #[error("the image {image} is refused: its {layer} {reason}")]
    Layer {
        /// Which image.
        image: String,
        /// Which layer, by its place and its digest.
        layer: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A registry does not give it away.
    #[error("cannot pull {image}: {reason}")]
    Refused {
        /// Which image.
        image: String,
        /// What the registry answered, and what to do about it.
        reason: String,
    },
    /// A registry can't be reached, or what it sent is not what was asked for.
    #[error("cannot pull {image}")]
    Fetch {
        /// Which image.
        image: String,
        /// What happened.
        #[source]
        source: FetchError,
    },
    /// The operator's credentials can't be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A file of this machine.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl OciError {
    /// An image that can't be taken.
    pub(super) fn image(image: &impl ToString, reason: impl Into<String>) -> Self {
        Self::Image {
            image: image.to_string(),
            reason: reason.into(),
        }
    }
}

impl OciError {
    /// A layer of an image that can't be unpacked.
    pub(super) fn layer(image: &str, layer: &str, error: TarError) -> Self {
        Self::Layer {
            image: image.to_owned(),
            layer: layer.to_owned(),
            reason: match error {
                TarError::Path(error) => return error.into(),
                TarError::Damaged(error) => format!("can't be unpacked: {}", told(&error)),
                TarError::Entry { entry, reason } => format!("holds `{entry}`, which {reason}"),
            },
        }
    }
}
