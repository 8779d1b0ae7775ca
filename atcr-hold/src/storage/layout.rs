use std::fmt;
use std::str::FromStr;

/// Where completed blobs stand in a storage that cannot rename.
///
/// Whatever it is, blobs that stand in the layout of CNCF distribution are found, so that a bucket of upstream's or of
/// distribution's is read as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Where they were uploaded, with a small object beside them that says which blob it is. Nothing is copied, so a
    /// commit takes the same time whatever the size.
    #[default]
    Uploaded,
    /// In the layout of CNCF distribution, for others who read the bucket. The storage copies each blob at its commit.
    Distribution,
}

/// A text that is not a [`Layout`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a layout is \"uploaded\" or \"distribution\"")]
pub struct LayoutError;

impl FromStr for Layout {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, LayoutError> {
        match text {
            "uploaded" => Ok(Self::Uploaded),
            "distribution" => Ok(Self::Distribution),
            _ => Err(LayoutError),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uploaded => "uploaded",
            Self::Distribution => "distribution",
        })
    }
}
