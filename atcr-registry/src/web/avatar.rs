use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};

use super::actions::MAX_AVATAR;
use super::error::PageError;
use super::path;
use super::ui::WebUi;

/// What bytes are, of the kinds of pictures that a page may have.
pub(super) fn picture_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// `/avatar/{owner}/{repository}`: the picture of a repository, from its owner's PDS. What is none is not shown, whatever
/// its record says.
pub(super) async fn show(
    State(ui): State<WebUi>,
    Path((owner, name)): Path<(String, String)>,
) -> Result<Response, PageError> {
    let none = || PageError::NotFound("There is no picture.".to_owned());
    let account = path::account(&ui, &owner).await?;
    let name = path::repository(&name)?;
    let entry = ui.index().repository(&account.did, &name).await?.ok_or_else(none)?;
    let ((cid, _), content) = entry.avatar.zip(ui.content()).ok_or_else(none)?;
    let bytes = ui.configs().picture(content, &account.did, &cid, MAX_AVATAR).await?;
    let media_type = picture_type(&bytes).ok_or_else(none)?;
    let headers = [
        (CONTENT_TYPE, media_type),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
        // The address has the CID as well: see the templates.
        (CACHE_CONTROL, "public, max-age=86400"),
    ];
    Ok((headers, bytes).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_by_their_bytes() {
        assert_eq!(picture_type(b"\x89PNG\r\n\x1a\n\0"), Some("image/png"));
        assert_eq!(picture_type(b"\xff\xd8\xff\xe0"), Some("image/jpeg"));
        assert_eq!(picture_type(b"RIFF\0\0\0\0WEBPVP8 "), Some("image/webp"));
        for other in [&b""[..], b"<svg onload=alert(1)>", b"<!doctype html>", b"GIF89a", b"RIFF", b"\x89PNG"]
        {
            assert_eq!(picture_type(other), None);
        }
    }
}
