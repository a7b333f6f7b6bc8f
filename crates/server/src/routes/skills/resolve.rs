//! The skills an agent names: found, or refused by name.

use std::collections::BTreeMap;

use freehold_base::{SkillId, WorkspaceId};
use freehold_store::SkillVersionRow;
use freehold_wire::ApiError;
use freehold_wire::agent::{Skill, SkillKind};

use super::{missing, missing_version, version_name};
use crate::app::App;
use crate::http::Fail;

/// The versions that these references mean now, in their order.
///
/// # Errors
/// 404 for what does not exist; 400 for a skill of the hosted platform, and for two skills of one
/// name, which would lie in one folder.
pub(crate) async fn resolve(
    app: &App,
    workspace: &WorkspaceId,
    skills: &[Skill],
) -> Result<Vec<SkillVersionRow>, Fail> {
    let mut found = Vec::with_capacity(skills.len());
    let mut names = BTreeMap::new();
    for (n, skill) in skills.iter().enumerate() {
        if skill.r#type == SkillKind::Anthropic {
            return Err(proprietary(n, &skill.skill_id).into());
        }
        let id: SkillId = skill
            .skill_id
            .parse()
            .map_err(|_| missing(&skill.skill_id))?;
        let version = version_name(&skill.version)?;
        let row = app.store.skill_version(workspace, &id, version).await?;
        let row = match row {
            Some(row) => row,
            None if app.store.skill(workspace, &id).await?.is_none() => {
                return Err(missing(&skill.skill_id).into());
            }
            None => return Err(missing_version(&skill.version).into()),
        };
        if let Some(first) = names.insert(row.name.clone(), n) {
            return Err(ApiError::invalid(format!(
                "skills.{n}: its name `{}` is also that of skills.{first}; an agent's skills need \
                 different names",
                row.name
            ))
            .into());
        }
        found.push(row);
    }
    Ok(found)
}

fn proprietary(n: usize, id: &str) -> ApiError {
    ApiError::invalid(format!(
        "skills.{n}: the skill `{id}` of type anthropic is content of the hosted platform, which \
         this server does not have; upload a skill of your own and name it with type custom"
    ))
    .with_code("skill_not_available")
}
