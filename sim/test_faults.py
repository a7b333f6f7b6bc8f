"""The bounded run: a little of everything, and the judge on trial."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from harness import history
from sim import broken, checker, mutations, points, scenarios

SEED = int(os.environ.get("FREEHOLD_SEED") or int.from_bytes(os.urandom(4)))
# Less than it takes to inject each fault of a scenario once, which is always done.
FAULTS_S, PATIENCE = 5, 0.25


@pytest.fixture(scope="module")
def outcome() -> scenarios.Outcome:
    return scenarios.run("brief", FAULTS_S, SEED, patience=PATIENCE)


def test_two_replicas_on_postgresql(outcome: scenarios.Outcome) -> None:
    assert not outcome.wrongs
    assert set(outcome.faults) == set(scenarios.SCENARIOS["brief"].faults)


def test_the_judge_notices_every_mutation(outcome: scenarios.Outcome) -> None:
    """Each property is shown able to fail, with what really happened as the start."""
    assert not mutations.unnoticed(outcome.record)
    noticed_by = {name for _, name in mutations.MUTATIONS}
    assert noticed_by == set(checker.PROPERTIES), "a property that no mutation breaks"


def test_a_full_second_is_no_step_back() -> None:
    at = ["2026-01-01T00:00:00.999999Z", "2026-01-01T00:00:01Z", "2026-01-01T00:00:01.000001Z"]
    events = [SimpleNamespace(id=f"sevt_{i}", type="session.updated", processed_at=time) for i, time in enumerate(at)]
    history.check(events)
    with pytest.raises(history.BrokenHistory, match="backwards"):
        history.check(events[::-1])


def test_one_server_on_sqlite() -> None:
    outcome = scenarios.run("brief-sqlite", FAULTS_S, SEED, patience=PATIENCE)
    assert not outcome.wrongs
    assert set(outcome.faults) == set(scenarios.SCENARIOS["brief-sqlite"].faults)


def test_every_named_crash_point() -> None:
    outcome = points.run(hits=1)
    assert not outcome.wrongs
    assert set(outcome.faults) == set(points.points())


def test_a_replayed_request_and_an_invented_acknowledgement_are_found_out() -> None:
    said = broken.clients(seconds=5)
    assert not said["Talk"], "the honest one beside them"
    assert any("times in the log, sent" in wrong for wrong in said["Replayed"]["inputs"])
    assert any("acknowledged as sevt_that_never_was" in wrong for wrong in said["Liar"]["inputs"])


def test_a_disk_that_forgets_is_found_out() -> None:
    said = broken.forgetful_disk(seconds=3)
    assert {"inputs", "log", "effects"} <= set(said), said
