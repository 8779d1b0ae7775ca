use askama::Template;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use multer::{Constraints, Multipart, SizeLimit};

use super::actions::{self, Avatar, MAX_AVATAR, MAX_DESCRIPTION};
use super::error::{PageError, see_other};
use super::page::{Visitor, html};
use super::path;
use super::ui::WebUi;

/// The longest form with a picture, in bytes.
pub(super) const MAX_FORM: usize = MAX_AVATAR + 4 * MAX_DESCRIPTION;

#[derive(Template)]
#[template(path = "edit.html")]
struct Edit {
    visitor: Visitor,
    owner: String,
    name: String,
    description: String,
    avatar: Option<String>,
}

/// `/edit/{owner}/{repository}`: the form for what a repository's page says.
pub(super) async fn show(
    State(ui): State<WebUi>,
    Path((owner, name)): Path<(String, String)>,
    visitor: Visitor,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let account = path::account(&ui, &owner).await?;
    let name = path::repository(&name)?;
    let person =
        ui.person(&headers, &format!("/edit/{}/{name}", path::segment(&path::called(&account)))).await?;
    actions::own(&person, &account)?;
    let Some(entry) = ui.index().repository(&account.did, &name).await? else {
        return Err(PageError::NotFound(format!("There is no repository called {name}.")));
    };
    let owner = path::called(&account);
    let page = Edit {
        visitor,
        description: entry.description.unwrap_or_default(),
        avatar: entry.avatar.map(|(cid, _)| format!("/avatar/{}/{name}?{cid}", path::segment(&owner))),
        owner,
        name: name.to_string(),
    };
    html(StatusCode::OK, &page)
}

/// What the form says. Fields are few and bounded; what has no name here is passed over.
#[derive(Default)]
struct Sent {
    csrf: String,
    owner: String,
    repository: String,
    description: String,
    avatar: Bytes,
    remove_avatar: bool,
}

fn unreadable(error: &multer::Error) -> PageError {
    match error {
        multer::Error::FieldSizeExceeded { .. } | multer::Error::StreamSizeExceeded { .. } => {
            let limit = MAX_AVATAR as u64;
            PageError::Store(atcr_core::StoreError::TooLarge { limit })
        }
        _ => PageError::Invalid("The form could not be read.".to_owned()),
    }
}

impl Sent {
    async fn read(headers: &HeaderMap, body: Body) -> Result<Self, PageError> {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let boundary =
            multer::parse_boundary(content_type.unwrap_or_default()).map_err(|e| unreadable(&e))?;
        let limits = SizeLimit::new()
            .whole_stream(MAX_FORM as u64)
            .per_field(4 * MAX_DESCRIPTION as u64)
            .for_field("avatar", MAX_AVATAR as u64);
        let constraints = Constraints::new().size_limit(limits);
        let mut form = Multipart::with_constraints(body.into_data_stream(), boundary, constraints);
        let mut sent = Self::default();
        while let Some(field) = form.next_field().await.map_err(|e| unreadable(&e))? {
            let name = field.name().unwrap_or_default().to_owned();
            if name == "avatar" {
                sent.avatar = field.bytes().await.map_err(|e| unreadable(&e))?;
                continue;
            }
            let text = field.text().await.map_err(|e| unreadable(&e))?;
            match name.as_str() {
                "csrf" => sent.csrf = text,
                "owner" => sent.owner = text,
                "repository" => sent.repository = text,
                // Forms write line ends as CRLF; Markdown in repos has LF.
                "description" => sent.description = text.replace("\r\n", "\n"),
                "remove_avatar" => sent.remove_avatar = true,
                _ => {}
            }
        }
        Ok(sent)
    }
}

/// `POST /actions/page`
pub(super) async fn save(State(ui): State<WebUi>, request: Request) -> Result<Response, PageError> {
    let (parts, body) = request.into_parts();
    // Nothing is read of what another site or nobody has sent.
    ui.check_origin(&parts.headers)?;
    let person = ui.person(&parts.headers, "/").await?;
    let sent = Sent::read(&parts.headers, body).await?;
    ui.check_form(&parts.headers, &person, &sent.csrf)?;
    let account = path::account(&ui, &sent.owner).await?;
    let name = path::repository(&sent.repository)?;
    actions::own(&person, &account)?;
    let avatar = match (sent.remove_avatar, sent.avatar.is_empty()) {
        (true, _) => Avatar::Remove,
        (false, true) => Avatar::Keep,
        (false, false) => Avatar::read(sent.avatar)?,
    };
    actions::write_page(&ui, &person, &name, Some(&sent.description), avatar).await?;
    Ok(see_other(&path::of_repository(&account, &name)))
}
