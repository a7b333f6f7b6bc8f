"""Validation of every response against the SDK's own models, without the SDK's leniency.

The SDK builds its objects with `construct`: missing fields become `None`, wrong types pass. Here
each response body and each stream event is validated again by pydantic in strict mode, from the
type the SDK itself casts to. Two more things pydantic cannot see are checked on the raw JSON:
fields the contract calls "required, may be null" (the SDK's models give them a default), and keys
the SDK does not know at all (a misspelled optional field would otherwise pass unseen).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pydantic

# Keys that must be there although they may be null, by the object's `type` (contract files 10, 20,
# 30, 40, 45, 72, 82).
NULLABLE = {
    "agent": {"description", "system", "multiagent"},
    "environment": {"description", "archived_at"},
    "session": {"archived_at", "budget", "title"},
    "session_thread": {"parent_thread_id", "workflow_run_id", "stats", "usage", "archived_at"},
    "file": {"expires_at"},
    "session.status_idle": {"stop_details"},
    "session.thread_status_idle": {"stop_details"},
    "session.thread_created": {"workflow_run_id"},
    "span.model_request_end": {"is_error"},
    "model": {"line", "max_input_tokens", "max_tokens", "deprecated_at", "retires_at", "capabilities"},
    "message": {"stop_reason", "stop_sequence", "stop_details", "container", "usage"},
}

# An `agent` inside a session has no timestamps of its own; the resource has.
STANDALONE_AGENT = {"archived_at", "created_at", "updated_at", "metadata"}

# The beta namespace knows these and shares its paths with the plain one, which does not.
BETA_ONLY = {("FileMetadata", "scope"), ("ModelInfo", "allowed_fallback_models")}


class ContractViolation(AssertionError):
    """A response that the SDK would have accepted silently and the contract does not allow."""


@lru_cache(maxsize=None)
def _adapter(type_: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(type_)


def check(data: object, type_: Any) -> int:
    """Validates one decoded body; returns how many objects it looked at."""
    try:
        value = _adapter(type_).validate_json(json.dumps(data), strict=True)
    except pydantic.ValidationError as error:
        raise ContractViolation(f"{_name(type_)} does not fit its SDK model: {error}\n{_show(data)}") from error
    unknown = sorted(_unknown(value, ""))
    if unknown:
        raise ContractViolation(f"{_name(type_)} has keys the SDK does not know: {unknown}\n{_show(data)}")
    count = 0
    for path, item, parent in _objects(data, ""):
        count += 1
        _required_nullable(path, item, parent, data)
    if isinstance(data, dict) and isinstance(data.get("data"), list) and "type" not in data:
        _page(data, _name(type_))
    return count


def _page(page: dict[str, Any], name: str) -> None:
    if "SendSessionEvents" in name:
        keys = {"data"}
    elif "BidirectionalPageCursor" in name:
        keys = {"data", "next_page", "prev_page"}
    elif "PageCursor" in name:
        keys = {"data", "next_page"}
    else:
        keys = {"data", "has_more", "first_id", "last_id"}
    if set(page) != keys:
        raise ContractViolation(f"{name}: page has the keys {sorted(page)}, not {sorted(keys)}")


def _required_nullable(path: str, item: dict[str, Any], parent: str | None, whole: object) -> None:
    kind = item.get("type")
    needed = set(NULLABLE.get(kind, ())) if isinstance(kind, str) else set()
    if kind == "agent":
        if set(item) == {"type", "id", "version"}:
            return  # a reference in a roster
        if parent is None:
            needed |= STANDALONE_AGENT
        elif parent not in ("session", "session.updated"):
            needed.discard("multiagent")  # a thread's agent, or a member of a roster
    if (kind == "session" and "agent" not in item) or (kind == "file" and "filename" not in item):
        return  # a file's scope; a session's resource, or a block's source
    missing = needed - set(item)
    if missing:
        raise ContractViolation(f"{kind} at {path or 'top'} lacks {sorted(missing)}\n{_show(whole)}")


def _objects(data: object, path: str, parent: str | None = None) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    """Every object with its place and the `type` of the object around it."""
    if isinstance(data, dict):
        yield path, data, parent
        for key, value in data.items():
            # Free-form JSON: what is inside is not ours.
            if key in {"input", "input_schema", "metadata"}:
                continue
            yield from _objects(value, f"{path}.{key}" if path else key, data.get("type"))
    elif isinstance(data, list):
        for i, value in enumerate(data):
            yield from _objects(value, f"{path}.{i}" if path else str(i), parent)


def _unknown(value: object, path: str) -> Iterator[str]:
    if isinstance(value, pydantic.BaseModel):
        for key in value.model_extra or {}:
            # JSON Schema is open by nature.
            if type(value).__name__.endswith("InputSchema") or (type(value).__name__, key) in BETA_ONLY:
                continue
            yield f"{path}.{key}" if path else key
        for key in type(value).model_fields:
            if key in {"input", "metadata"}:
                continue
            yield from _unknown(getattr(value, key), f"{path}.{key}" if path else key)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _unknown(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _unknown(item, f"{path}.{i}")


def _name(type_: Any) -> str:
    return getattr(type_, "__name__", None) or str(type_)[:120]


def _show(data: object) -> str:
    return json.dumps(data, indent=1)[:1500]


class Counter:
    """How much was validated, so that a suite can prove it validated anything."""

    bodies = 0
    objects = 0


def install(base_client: type) -> None:
    """Puts the check between the SDK's transport and its object construction.

    Patched on the base class, so that every client gets it: sync, async, copies made by
    `with_options` and those that the SDK's own helpers make for themselves.
    """
    original = base_client._process_response_data

    def checked(self: Any, *, data: object, cast_to: Any, response: Any) -> Any:
        if data is not None and cast_to is not object:
            Counter.objects += check(data, cast_to)
            Counter.bodies += 1
            headers(response)
        return original(self, data=data, cast_to=cast_to, response=response)

    base_client._process_response_data = checked


def headers(response: Any) -> None:
    """The headers that every answer of ours carries (contract 00 §3)."""
    for name, prefix in (
        ("request-id", "req_"),
        ("anthropic-workspace-id", "wrkspc_"),
        ("anthropic-organization-id", ""),
    ):
        value = response.headers.get(name)
        if not value or not value.startswith(prefix):
            raise ContractViolation(f"{response.request.url}: header {name} is {value!r}")
    if response.status_code != 200:
        raise ContractViolation(f"{response.request.url}: success is 200, not {response.status_code}")
