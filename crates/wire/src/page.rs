//! Pages (contract 00 §6).

use serde::Serialize;

/// One page of a forward cursor: `{"data", "next_page"}`.
#[derive(Debug, Clone, Serialize)]
pub struct Page<T> {
    /// The items.
    pub data: Vec<T>,
    /// Opaque cursor of the next page; null on the last.
    pub next_page: Option<String>,
}

/// One page of a cursor that goes both ways; only `GET /v1/sessions`.
#[derive(Debug, Clone, Serialize)]
pub struct BiPage<T> {
    /// The items.
    pub data: Vec<T>,
    /// Opaque cursor of the next page; null on the last.
    pub next_page: Option<String>,
    /// Opaque cursor of the previous page; null on the first.
    pub prev_page: Option<String>,
}

/// One page of an id cursor: `{"data", "has_more", "first_id", "last_id"}` (models).
#[derive(Debug, Clone, Serialize)]
pub struct IdPage<T> {
    /// The items.
    pub data: Vec<T>,
    /// Whether there are more in the direction asked for.
    pub has_more: bool,
    /// Id of the first item; null when there is none.
    pub first_id: Option<String>,
    /// Id of the last item; null when there is none.
    pub last_id: Option<String>,
}
