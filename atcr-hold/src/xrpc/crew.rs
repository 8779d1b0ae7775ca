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
    let (role, permissions) = match standing {
        Standing::Captain => (Role::Admin, Permissions::all()),
        // Nobody makes themselves more than a member.
        _ => {
            let (member, most) = Roster::member();
            let role = input.role.filter(|role| !matches!(role, Role::Owner | Role::Admin));
            let asked = input.permissions.unwrap_or_else(|| most.clone());
            let given = asked.iter().filter(|permission| most.contains(permission)).cloned();
            let role = role.filter(|role| role.as_str().len() <= 32).unwrap_or(member);
            (role, given.collect())
        }
    };
    let enrolment = roster.enrol(&caller, role, permissions).await?;
    let path = RecordPath::new(&CrewRecord::collection(), &enrolment.rkey).map_err(XrpcError::internal)?;
    let record = hold.repos().get_record(hold.did(), &path).await?;
    Ok(Json(RequestCrewOutput {
        status: match enrolment.created {
            true => RequestCrewStatus::Created,
            false => RequestCrewStatus::AlreadyMember,
        },
        uri: Some(CrewRecord::uri(hold.did(), &enrolment.rkey)),
        cid: record.map(|record| record.cid.to_string()),
        message: None,
    }))
}
