//! Whether a tool may be offered and called, from what is known of it.

use super::{Fingerprint, ToolClass, ToolState};

/// All that the decision needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Only what an operator approved is offered.
    pub pinned: bool,
    /// Classes whose calls must be confirmed.
    pub confirm: Vec<ToolClass>,
    /// The definition the server serves, as far as it was seen; none if it no longer lists the tool.
    pub current: Option<Fingerprint>,
    /// The definition that an operator approved.
    pub approved: Option<Fingerprint>,
    /// Definitions that an operator refused.
    pub refused: Vec<Fingerprint>,
    /// Other definitions than the current one were served before.
    pub was_different: bool,
    /// Taken out of use.
    pub deprecated: bool,
    /// The class that the current definition claims.
    pub claimed: ToolClass,
    /// The class that an operator gave it.
    pub class: Option<ToolClass>,
}

/// Why a tool may not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is new on a pinned server, or on any server after one of its definitions was refused.
    Held,
    /// Its definition is not the approved one, or not the one the model was shown.
    Changed,
    /// An operator refused it.
    Refused,
    /// An operator took it out of use.
    Deprecated,
    /// Nothing is known of it.
    Unknown,
}

impl Why {
    /// For the model and for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Held => "the tool waits for an operator's approval",
            Self::Changed => {
                "the server has changed the tool's definition since it was shown or approved"
            }
            Self::Refused => "an operator has refused the tool",
            Self::Deprecated => "an operator has taken the tool out of use",
            Self::Unknown => "the server has no such tool",
        }
    }
    /// A word for records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Changed => "changed",
            Self::Refused => "refused",
            Self::Deprecated => "deprecated",
            Self::Unknown => "unknown",
        }
    }
}

impl Standing {
    /// Where it stands, for people.
    pub fn state(&self) -> ToolState {
        let Some(current) = &self.current else {
            return match self.deprecated {
                true => ToolState::Deprecated,
                false => ToolState::Removed,
            };
        };
        if self.deprecated {
            ToolState::Deprecated
        } else if self.refused.contains(current) {
            ToolState::Refused
        } else if self.approved.as_ref() == Some(current) {
            ToolState::Approved
        } else if self.approved.is_some() || self.was_different {
            ToolState::Changed
        } else {
            ToolState::New
        }
    }

    /// Why the definition `shown` may not be offered or called; none if it may.
    ///
    /// Lists may differ from one credential to the next, so a tool that the server no longer lists
    /// is not refused for that alone: the server itself answers that there is none.
    pub fn objection(&self, shown: &Fingerprint) -> Option<Why> {
        if self.deprecated {
            return Some(Why::Deprecated);
        }
        if self.refused.contains(shown) {
            return Some(Why::Refused);
        }
        if self
            .current
            .as_ref()
            .is_some_and(|current| current != shown)
        {
            return Some(Why::Changed);
        }
        if self.approved.as_ref() == Some(shown) {
            return None;
        }
        // Otherwise a server would get around a refusal by changing one letter.
        if !self.pinned && self.refused.is_empty() {
            return None;
        }
        Some(match self.approved {
            Some(_) => Why::Changed,
            None => Why::Held,
        })
    }

    /// Whether what the server serves may be shown to a model.
    pub fn offered(&self) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|current| self.objection(current).is_none())
    }

    /// The class that policies go by. A claim to be harmless counts only in a definition that an
    /// operator approved.
    pub fn effective_class(&self) -> ToolClass {
        let approved = self.current.is_some() && self.approved == self.current;
        self.class.unwrap_or(match self.claimed {
            ToolClass::Read if !approved => ToolClass::Write,
            claimed => claimed,
        })
    }

    /// Whether the policy demands that each call is confirmed.
    pub fn ask(&self) -> bool {
        self.confirm.contains(&self.effective_class())
    }
}
