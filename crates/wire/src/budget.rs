//! Budgets of a session as requested (contract 30, "Budgets").

use serde_json::Value;

use crate::decode::{At, Decode, Object, string};
use crate::usage::{Budget, BudgetLimit, Money};
use crate::{ApiError, Patch};

/// Digits of an amount; the greatest is far beyond any price and far within 64 bits.
const MAX_DIGITS: usize = 15;
/// Millionths of a millionth of a US dollar in a cent: the unit consumed cost is compared in.
pub const PICO_USD_PER_CENT: u128 = 10_000_000_000;

/// Reads a `budget`.
///
/// # Errors
/// It is no limit of whole US cents above zero.
pub fn budget(value: Value, at: &At<'_>) -> Decode<Budget> {
    let mut o = Object::new(value, at)?;
    o.tag(&["limit"])?;
    let max_list_cost = o.required("max_list_cost", |value, at| {
        let mut o = Object::new(value, at)?;
        let money = Money {
            amount: o.required("amount", amount)?,
            currency: o.required("currency", currency)?,
        };
        o.finish()?;
        Ok(money)
    })?;
    o.finish()?;
    Ok(Budget::Limit(BudgetLimit { max_list_cost }))
}

fn amount(value: Value, at: &At<'_>) -> Decode<String> {
    let amount = string(value, at)?;
    let is_whole = amount.bytes().all(|c| c.is_ascii_digit()) && !amount.is_empty();
    if !is_whole || amount.starts_with('0') || MAX_DIGITS < amount.len() {
        return Err(at.error(format_args!(
            "Input should be a whole number of cents greater than zero, as a string of at most {MAX_DIGITS} digits without leading zeros"
        )));
    }
    Ok(amount)
}

fn currency(value: Value, at: &At<'_>) -> Decode<String> {
    match string(value, at)?.as_str() {
        "USD" => Ok("USD".to_owned()),
        _ => Err(at.error("Input should be 'USD'")),
    }
}

/// Applies the `budget` of an update. `consumed` is the exact list cost so far in millionths of a
/// millionth of a US dollar, `None` when a model without a list price was used.
///
/// # Errors
/// `budget_create_only`, `budget_not_raised` or `model_not_budgetable`.
pub fn update(
    stored: Option<&Budget>,
    patch: &Patch<Budget>,
    priced: bool,
    consumed: Option<u128>,
) -> Decode<Option<Budget>> {
    let new = match patch {
        Patch::Keep => return Ok(stored.cloned()),
        Patch::Clear => return Ok(None),
        Patch::Set(new) => new,
    };
    let Some(stored) = stored else {
        return Err(ApiError::invalid(
            "budget: A budget can only be set when a session is created (budget_create_only).",
        )
        .with_code("budget_create_only"));
    };
    if stored == new {
        return Ok(Some(new.clone()));
    }
    let consumed = consumed.filter(|_| priced).ok_or_else(not_budgetable)?;
    if cap(new) <= consumed {
        return Err(ApiError::invalid(
            "budget.max_list_cost must be greater than the session's consumed list cost",
        )
        .with_code("budget_not_raised"));
    }
    Ok(Some(new.clone()))
}

/// A budget needs list prices for every model that can run.
pub fn not_budgetable() -> ApiError {
    ApiError::invalid(
        "budget: A model of this session has no list price, so its cost cannot be capped (model_not_budgetable).",
    )
    .with_code("model_not_budgetable")
}

/// The refusal of an event of type `kind` while the budget is spent (contract 30, "Budgets"; see
/// [`crate::event::EventParams::is_accepted_at_cap`]).
pub fn reached(kind: &str) -> ApiError {
    ApiError::invalid(format!(
        "The session's budget is spent (budget_reached), so `{kind}` is not accepted; only user.tool_confirmation, user.tool_result, user.custom_tool_result and user.interrupt are, until the budget is raised or removed."
    ))
}

/// The cap in millionths of a millionth of a US dollar.
pub fn cap(budget: &Budget) -> u128 {
    let Budget::Limit(limit) = budget;
    let cents: u128 = limit.max_list_cost.amount.parse().unwrap_or_default();
    cents.saturating_mul(PICO_USD_PER_CENT)
}
