use atcr_core::methods::{RequestCrew, RequestCrewOutput, RequestCrewStatus, error_name};
use atcr_core::records::{CrewRecord, Permissions, Record as _, Role};
use atcr_pds::repo::RecordPath;
use atcr_pds::xrpc::XrpcError;
use axum::Json;
use axum::extract::{Request, State};
use http::StatusCode;

use super::input::call;
use crate::Hold;
use crate::access::{Roster, Standing, Use};

/// What the lexicon has room for in a role, in bytes.
const MAX_ROLE: usize = 32;

pub(super) async fn request(
    State(hold): State<Hold>,
    request: Request,
) -> Result<Json<RequestCrewOutput>, XrpcError> {
    let (caller, input) = call::<RequestCrew>(&hold, request, Use::Repeatable).await?;
    let roster = &hold.inner.roster;
    let standing = roster.standing(Some(&caller)).await?;
    if standing == Standing::Stranger && !roster.open_to_all().await? {
        let message = format!("this hold takes nobody who enrols; ask its owner {}", roster.owner());
        return Err(XrpcError::new(StatusCode::FORBIDDEN, error_name::REGISTRATION_DISABLED, message));
    }
    let (role, permissions) = if standing == Standing::Captain {
        (Role::Admin, Permissions::all())
    } else {
        // Nobody makes themselves more than a member.
        let (member, most) = Roster::member();
        let role = input.role.filter(|role| !matches!(role, Role::Owner | Role::Admin));
        let role = role.filter(|role| role.as_str().len() <= MAX_ROLE).unwrap_or(member);
        let asked = input.permissions.unwrap_or_else(|| most.clone());
        (role, asked.iter().filter(|permission| most.contains(permission)).cloned().collect())
    };
    let enrolment = roster.enrol(&caller, role, permissions).await?;
    let path = RecordPath::new(&CrewRecord::collection(), &enrolment.rkey).map_err(XrpcError::internal)?;
    let record = hold.repos().get_record(hold.did(), &path).await?;
    Ok(Json(RequestCrewOutput {
        status: if enrolment.created { RequestCrewStatus::Created } else { RequestCrewStatus::AlreadyMember },
        uri: Some(CrewRecord::uri(hold.did(), &enrolment.rkey)),
        cid: record.map(|record| record.cid.to_string()),
        message: None,
    }))
}
