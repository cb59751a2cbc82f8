//! `GET /approvals/{id}`: where the link in a notice leads: how to decide. It says nothing of the approval itself.

use super::problem::Problem;
use super::texts::approval_id;
use axum::extract::Path;

/// Says how an approval is shown and decided on the command line, whether there is one of that number or not.
#[utoipa::path(
    get, path = "/approvals/{id}", security(()),
    params(("id" = String, Path, description = "The approval's number")),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 400, body = Problem, content_type = "application/problem+json")
    )
)]
pub async fn signpost(Path(id): Path<String>) -> Result<String, Problem> {
    let id = approval_id(&id)?;
    Ok(format!(
        "Approval {id} is shown and decided on the command line:\n\n\
         countersign approvals show {id}\n\
         countersign approvals approve {id}\n\
         countersign approvals deny {id} --reason 'why'\n"
    ))
}
