use std::fmt;

use super::IndexError;

/// Which part of a list is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// At most this many entries; 50 when absent, and never more than 200.
    pub limit: Option<usize>,
    /// What the part before gave as [`Listed::next`].
    pub cursor: Option<String>,
}

impl PageRequest {
    /// The first so many entries.
    pub fn first(limit: usize) -> Self {
        Self { limit: Some(limit), cursor: None }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(50).clamp(1, 200)
    }

    /// One more than the limit, so that it shows whether there are more.
    pub(super) fn fetch(&self) -> i64 {
        i64::try_from(self.limit()).unwrap_or(200) + 1
    }

    pub(super) fn after(&self) -> Result<Option<PageCursor>, IndexError> {
        self.cursor.as_deref().map(PageCursor::parse).transpose()
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed<T> {
    /// The entries.
    pub items: Vec<T>,
    /// The cursor of the next part; `None` at the end. It stays right while the list changes.
    pub next: Option<String>,
}

impl<T> Listed<T> {
    /// Cuts a part out of one entry more than it may have.
    pub(super) fn cut(mut items: Vec<T>, request: &PageRequest, cursor: impl Fn(&T) -> String) -> Self {
        let more = items.len() > request.limit();
        items.truncate(request.limit());
        let next = if more { items.last().map(cursor) } else { None };
        Self { items, next }
    }
}

/// The place of an entry in its list: what the list is sorted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PageCursor(pub(super) Vec<i64>);

impl PageCursor {
    fn parse(text: &str) -> Result<Self, IndexError> {
        let numbers: Result<Vec<i64>, _> = text.split('.').take(4).map(str::parse).collect();
        numbers.map(Self).map_err(|_| IndexError::Cursor(text.chars().take(64).collect()))
    }

    /// As many numbers as the list is sorted by.
    pub(super) fn exactly<const N: usize>(&self) -> Result<[i64; N], IndexError> {
        self.0.as_slice().try_into().map_err(|_| IndexError::Cursor(self.to_string()))
    }
}

impl fmt::Display for PageCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, number) in self.0.iter().enumerate() {
            write!(f, "{}{number}", if at == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}
