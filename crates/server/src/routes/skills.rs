//! `/v1/skills` (contract 70).

mod bundle;
mod resolve;
mod shape;
mod upload;

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use freehold_base::{SkillId, WorkspaceId};
use freehold_store::{
    AddSkillVersionError, Blob, DeleteSkillVersionError, NewSkill, NewSkillVersion, SkillQuery,
    SkillRow, SkillVersionRow, VersionName,
};
use freehold_wire::cursor::Position;
use freehold_wire::list::{ListPlain, ListSkills};
use freehold_wire::skill::LATEST;
use freehold_wire::{ApiError, Deleted};
use tokio::sync::Semaphore;

pub(crate) use resolve::resolve;

use self::bundle::{Bundle, bundle};
use self::shape::Shape;
use super::files;
use super::query::{Asked, created_position};
use crate::app::App;
use crate::auth::{Caller, Principal, Reach};
use crate::http::{Fail, Reply, json, path_id};

/// Uploads that are unpacked and packed at a time; each needs a few times its size of memory.
static PACKING: Semaphore = Semaphore::const_new(2);

/// `POST /v1/skills`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    shape: Shape,
    request: Request,
) -> Reply {
    let received = upload::receive(request).await?;
    let (version, blob) = version(&app, received.parts).await?;
    let new = NewSkill {
        id: app.ids.next(),
        workspace_id: caller.workspace,
        display_name: received
            .display_name
            .unwrap_or_else(|| version.name.clone()),
        first: version,
    };
    let row = app.store.create_skill(new).await?;
    // The row refers to the blob now.
    drop(blob);
    shape.skill(row)
}

/// `GET /v1/skills`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    shape: Shape,
    Asked(query): Asked,
) -> Reply {
    let asked = ListSkills::read(&query)?;
    let query = SkillQuery {
        after: asked.page.map(created_position).transpose()?,
        limit: asked.limit,
    };
    let mut rows = match asked.custom {
        true => app.store.list_skills(&caller.workspace, query).await?,
        false => Vec::new(),
    };
    let more = rows.len() > asked.limit;
    rows.truncate(asked.limit);
    let next_page = rows.last().filter(|_| more).map(|last| {
        let id = last.id.to_string();
        ListSkills::SCOPE.next(Position::Created(last.created_at.as_micros(), id))
    });
    shape.skills(rows, next_page)
}

/// `GET /v1/skills/{id}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    caller: Caller,
    shape: Shape,
    Path(id): Path<String>,
) -> Reply {
    shape.skill(find(&app, &caller.workspace, &id).await?)
}

/// `DELETE /v1/skills/{id}`
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Reply {
    let parsed: SkillId = path_id("Skill", &id)?;
    if !app.store.delete_skill(&caller.workspace, &parsed).await? {
        return Err(missing(&id).into());
    }
    json(&Deleted {
        id,
        r#type: "skill_deleted",
    })
}

/// `POST /v1/skills/{id}/versions`
pub(crate) async fn create_version(
    State(app): State<Arc<App>>,
    caller: Caller,
    shape: Shape,
    Path(id): Path<String>,
    request: Request,
) -> Reply {
    // Before the upload is read.
    let skill = find(&app, &caller.workspace, &id).await?;
    let received = upload::receive(request).await?;
    if received.display_name.is_some() {
        let message = "display_name: belongs to the skill, not to a version";
        return Err(ApiError::invalid(message).into());
    }
    let (version, blob) = version(&app, received.parts).await?;
    let sent = version.name.clone();
    let added = app
        .store
        .add_skill_version(&caller.workspace, &skill.id, version)
        .await;
    drop(blob);
    match added {
        Ok(row) => shape.version(row),
        Err(AddSkillVersionError::NotFound) => Err(missing(&id).into()),
        Err(AddSkillVersionError::OtherName { name }) => Err(ApiError::invalid(format!(
            "SKILL.md: `name` is \"{sent}\", but the skill is named \"{name}\"; all versions of a \
             skill have the same name"
        ))
        .into()),
        Err(AddSkillVersionError::Store(error)) => Err(error.into()),
    }
}

/// `GET /v1/skills/{id}/versions`
pub(crate) async fn versions(
    State(app): State<Arc<App>>,
    caller: Caller,
    shape: Shape,
    Path(id): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let skill = find(&app, &caller.workspace, &id).await?.id;
    let asked = ListPlain::skill_versions(&query, &skill, shape.max_versions())?;
    let before = asked.page.and_then(|page| match page.position {
        Position::Number(number) => Some(number),
        _ => None,
    });
    let rows = app
        .store
        .list_skill_versions(&caller.workspace, &skill, before, asked.limit);
    let mut rows = rows.await?;
    let more = rows.len() > asked.limit;
    rows.truncate(asked.limit);
    let next_page = rows
        .last()
        .filter(|_| more)
        .map(|last| ListPlain::skill_versions_scope(&skill).next(Position::Number(last.number)));
    shape.versions(rows, next_page)
}

/// `GET /v1/skills/{id}/versions/{version}`
pub(crate) async fn retrieve_version(
    State(app): State<Arc<App>>,
    principal: Principal,
    shape: Shape,
    Path((id, version)): Path<(String, String)>,
) -> Reply {
    shape.version(find_version(&app, &principal, &id, &version).await?)
}

/// `DELETE /v1/skills/{id}/versions/{version}`
pub(crate) async fn delete_version(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, version)): Path<(String, String)>,
) -> Reply {
    let skill: SkillId = path_id("Skill", &id)?;
    if version == LATEST {
        let message = "name the version to be deleted by its id, not as `latest`";
        return Err(ApiError::invalid(message).into());
    }
    let name = version_name(&version)?;
    match app
        .store
        .delete_skill_version(&caller.workspace, &skill, name)
        .await
    {
        Ok(_) => json(&Deleted {
            id: version,
            r#type: "skill_version_deleted",
        }),
        Err(DeleteSkillVersionError::NotFound) => Err(missing_version(&version).into()),
        Err(DeleteSkillVersionError::Last) => Err(ApiError::invalid(
            "a skill has at least one version; delete the skill instead",
        )
        .into()),
        Err(DeleteSkillVersionError::Store(error)) => Err(error.into()),
    }
}

/// `GET /v1/skills/{id}/versions/{version}/content`
pub(crate) async fn content(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path((id, version)): Path<(String, String)>,
) -> Reply {
    let row = find_version(&app, &principal, &id, &version).await?;
    let download = files::Download {
        blob: &row.blob,
        size: row.size,
        mime_type: "application/zip",
        filename: &format!("{}.zip", row.name),
    };
    let response = download.respond(&app).await?;
    response.ok_or_else(|| missing_version(&version).into())
}

/// Checks and packs what was uploaded and stores it. The blob is held until a row refers to it.
async fn version(app: &App, parts: Vec<upload::Part>) -> Result<(NewSkillVersion, Blob), Fail> {
    // Never closed.
    let _turn = PACKING.acquire().await;
    let packed = tokio::task::spawn_blocking(move || bundle(parts)).await;
    let Bundle { manifest, archive } = packed.map_err(|error| Fail::internal(&error))??;
    let blob = app.store.blobs().put(&archive[..], u64::MAX).await;
    let blob = blob.map_err(|error| Fail::internal(&error))?;
    let new = NewSkillVersion {
        id: app.ids.next(),
        name: manifest.name,
        description: manifest.description,
        size: blob.size,
        blob: blob.key.clone(),
    };
    Ok((new, blob))
}

async fn find(app: &App, workspace: &WorkspaceId, id: &str) -> Result<SkillRow, Fail> {
    let row = app.store.skill(workspace, &path_id("Skill", id)?).await?;
    row.ok_or_else(|| missing(id).into())
}

/// The version a path names, within the reach of whoever asks: a worker sees what its sessions were
/// made with and nothing else (contract 50 §1).
async fn find_version(
    app: &App,
    principal: &Principal,
    id: &str,
    version: &str,
) -> Result<SkillVersionRow, Fail> {
    let skill: SkillId = path_id("Skill", id)?;
    let name = version_name(version)?;
    let store = &app.store;
    let row = match &principal.reach {
        Reach::Workspace { .. } => {
            let found = store.skill_version(&principal.workspace, &skill, name);
            found.await?
        }
        Reach::Environment { environment, .. } => {
            let found = store.environment_skill_version(environment, &skill, name);
            found.await?
        }
        Reach::Session { session, .. } => {
            store.session_skill_version(session, &skill, name).await?
        }
    };
    row.ok_or_else(|| missing_version(version).into())
}

/// A version as a path or an agent names it: an id, `latest`, or a number of the legacy form.
fn version_name(text: &str) -> Result<VersionName, ApiError> {
    if text == LATEST {
        return Ok(VersionName::Latest);
    }
    if let Ok(number) = text.parse() {
        return Ok(VersionName::Number(number));
    }
    path_id("Skill version", text).map(VersionName::Id)
}

fn missing(id: &str) -> ApiError {
    ApiError::not_found("Skill", id)
}

fn missing_version(version: &str) -> ApiError {
    ApiError::not_found("Skill version", version)
}
