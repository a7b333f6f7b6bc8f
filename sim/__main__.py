"""`cargo xtask sim`."""

from __future__ import annotations

import argparse
import os
import sys
import time

from . import points, scenarios
from .checker import counts

CONTROL = "unfenced"
CONTROL_S = 60
# What is run if nothing is said: not what is for the tests, nor what has to fail.
LONG = [name for name in scenarios.SCENARIOS if name != CONTROL and not name.startswith("brief")]
# Of each named crash point, as many passages as a turn has.
EXHAUSTIVE = 12


def main() -> int:
    parser = argparse.ArgumentParser(prog="cargo xtask sim")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)), help="chooses the faults; printed")
    parser.add_argument("--minutes", type=float, default=30, help="of faults, over all scenarios [default: 30]")
    parser.add_argument("--scenario", action="append", choices=[*scenarios.SCENARIOS, "points"], help="only this one; can be repeated")
    args = parser.parse_args()
    names = args.scenario or [*LONG, "points"]
    timed = [name for name in names if name != "points"]
    print(f"seed {args.seed}")
    outcomes = [scenarios.run(name, args.minutes * 60 / len(timed), args.seed) for name in timed]
    if "points" in names:
        outcomes.append(points.run(EXHAUSTIVE, args.seed))
    bad = table(outcomes)
    if not args.scenario and not control(args.seed):
        bad += 1
    return 1 if bad else 0


def control(seed: int) -> bool:
    """Whether the judge finds something where there is something to be found."""
    found = sum(map(len, scenarios.run(CONTROL, CONTROL_S, seed).wrongs.values()))
    print(f"negative control, {CONTROL}: {found} violations found, " + ("as it has to be" if found else "WHICH IS TOO FEW"))
    return found > 0


def table(outcomes: list[scenarios.Outcome]) -> int:
    print(f"\n{'scenario':<14} {'minutes':>7} {'faults':>6} {'inputs':>6} {'calls':>6} {'unknown':>7} {'events':>7} {'streams':>7} violations")
    bad = 0
    for outcome in outcomes:
        seen = counts(outcome.record)
        wrong = sum(map(len, outcome.wrongs.values()))
        bad += wrong
        row = [seen.get(k, 0) for k in ("inputs", "calls", "unknown", "events", "streams")]
        cells = f"{row[0]:>6} {row[1]:>6} {row[2]:>7} {row[3]:>7} {row[4]:>7}"
        print(f"{outcome.name:<14} {outcome.seconds / 60:>7.1f} {outcome.faults.total():>6} {cells} {wrong:>10}")
    print()
    for outcome in outcomes:
        print(f"{outcome.name}: " + ", ".join(f"{kind} {n}" for kind, n in sorted(outcome.faults.items())))
    return bad


if __name__ == "__main__":
    began = time.monotonic()
    status = main()
    print(f"{(time.monotonic() - began) / 60:.1f} minutes in all")
    sys.exit(status)
