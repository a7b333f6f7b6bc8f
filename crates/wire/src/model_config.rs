//! The `model` of an agent as requested, and what it resolves to (contract 10, "ModelConfig").

use serde_json::Value;

use crate::ApiError;
use crate::agent::{Effort, ModelConfig, Speed};
use crate::decode::{At, Decode, Object, one_of, text};

/// Characters of a model id.
const MAX_MODEL_ID: usize = 256;
/// Characters of a region's name.
const MAX_GEO: usize = 64;

/// What a configured model can do, as far as an agent's configuration depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelFacts {
    /// What an omitted effort resolves to.
    pub default_effort: Effort,
    /// Whether another effort than the default can be chosen.
    pub effort: bool,
    /// Whether `speed: fast` can be chosen.
    pub fast: bool,
    /// Whether it has a list price, which a budget needs.
    pub priced: bool,
}

/// The models of this installation.
pub trait Models {
    /// What is known of a model.
    ///
    /// # Errors
    /// The model is not configured; the message says how to configure it.
    fn facts(&self, id: &str) -> Result<ModelFacts, ApiError>;
}

/// A requested model: a bare id or an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelParam {
    /// The id.
    pub id: String,
    /// Omitted and null are the same.
    pub effort: Option<Effort>,
    /// Omitted and null are the same.
    pub speed: Option<Speed>,
    /// Omitted and null are the same.
    pub inference_geo: Option<String>,
}

const EFFORTS: &[(&str, Effort)] = &[
    ("low", Effort::Low),
    ("medium", Effort::Medium),
    ("high", Effort::High),
    ("xhigh", Effort::Xhigh),
    ("max", Effort::Max),
];
const SPEEDS: &[(&str, Speed)] = &[("standard", Speed::Standard), ("fast", Speed::Fast)];

impl ModelParam {
    /// Reads either form.
    ///
    /// # Errors
    /// It is neither.
    pub fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        match value {
            Value::String(_) => Ok(Self {
                id: text(1, MAX_MODEL_ID)(value, at)?,
                effort: None,
                speed: None,
                inference_geo: None,
            }),
            Value::Object(_) => {
                let mut o = Object::new(value, at)?;
                let param = Self {
                    id: o.required("id", text(1, MAX_MODEL_ID))?,
                    effort: o.optional("effort", effort)?,
                    speed: o.optional("speed", one_of(SPEEDS))?,
                    inference_geo: o.optional("inference_geo", geo)?,
                };
                o.finish()?;
                Ok(param)
            }
            _ => Err(at.error("Input should be a model id or a model configuration object")),
        }
    }

    /// The configuration an agent stores. `stored` is the model of the agent being updated: with the
    /// same id an omitted effort keeps the stored one; everything else omitted takes its default.
    ///
    /// # Errors
    /// The model is not configured or cannot do what is asked.
    pub fn resolve(self, stored: Option<&ModelConfig>, models: &dyn Models) -> Decode<ModelConfig> {
        let at = At::ROOT;
        let at = at.key("model");
        let facts = models.facts(&self.id)?;
        let kept = stored.filter(|s| s.id == self.id).map(|s| s.effort);
        if let Some(effort) = self.effort
            && !facts.effort
            && effort != facts.default_effort
        {
            return Err(at.key("effort").error(format_args!(
                "effort `{}` is not supported by model `{}`; it always runs at `{}`",
                effort.as_str(),
                crate::decode::echo(&self.id),
                facts.default_effort.as_str()
            )));
        }
        let speed = self.speed.unwrap_or(Speed::Standard);
        if speed == Speed::Fast && !facts.fast {
            return Err(at.key("speed").error(format_args!(
                "speed `fast` is not supported by model `{}`",
                crate::decode::echo(&self.id)
            )));
        }
        Ok(ModelConfig {
            effort: self.effort.or(kept).unwrap_or(facts.default_effort),
            speed,
            inference_geo: self.inference_geo,
            id: self.id,
        })
    }

    /// The configuration of a session that overrides its agent's model: any effort in the override
    /// is ignored and the model runs at its default (contract 10, "ModelConfig").
    ///
    /// # Errors
    /// As [`ModelParam::resolve`].
    pub fn resolve_override(mut self, models: &dyn Models) -> Decode<ModelConfig> {
        self.effort = None;
        self.resolve(None, models)
    }
}

fn effort(value: Value, at: &At<'_>) -> Decode<Effort> {
    if !value.is_object() {
        return one_of(EFFORTS)(value, at);
    }
    let mut o = Object::new(value, at)?;
    let effort = o.required("type", one_of(EFFORTS))?;
    o.finish()?;
    Ok(effort)
}

fn geo(value: Value, at: &At<'_>) -> Decode<String> {
    let geo = text(1, MAX_GEO)(value, at)?;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    if geo.chars().all(is_plain) {
        Ok(geo)
    } else {
        Err(at.error("Input should be a region such as 'us' or 'global'"))
    }
}
