//! `GET /v1/skills` and the versions of one.

use freehold_base::SkillId;
use freehold_base::limits::page;

use super::{ListPlain, cursor};
use crate::ApiError;
use crate::cursor::{Cursor, List, Order, Scope};
use crate::query::{Query, error};

/// `GET /v1/skills`, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListSkills {
    /// Whether any skill of this server can be meant: not with `source=anthropic`.
    pub custom: bool,
    /// Page size.
    pub limit: usize,
    /// Where to start.
    pub page: Option<Cursor>,
}

impl ListSkills {
    /// The scope of its cursors.
    pub const SCOPE: Scope<'static> = Scope {
        list: List::Skills,
        parent: "",
        order: Order::Desc,
    };
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn read(query: &Query) -> Result<Self, ApiError> {
        let custom = match query.text("source")? {
            None | Some("custom") => true,
            Some("anthropic") => false,
            Some(_) => {
                return Err(error("source", "Input should be 'custom' or 'anthropic'"));
            }
        };
        Ok(Self {
            custom,
            limit: query.limit(page::SKILLS)?,
            page: cursor(query, Self::SCOPE)?,
        })
    }
}

impl ListPlain {
    /// The scope of the cursors of a skill's versions, newest first.
    pub fn skill_versions_scope(skill: &SkillId) -> Scope<'_> {
        Scope {
            list: List::SkillVersions,
            parent: skill.as_str(),
            order: Order::Desc,
        }
    }
    /// `GET /v1/skills/{id}/versions`, of at most `max` on a page.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn skill_versions(query: &Query, skill: &SkillId, max: usize) -> Result<Self, ApiError> {
        let limit = (page::SKILLS.0, max);
        Self::read(query, limit, Self::skill_versions_scope(skill))
    }
}
