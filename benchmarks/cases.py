"""What is measured: a list. A case's name is its family and its size; a row's cost is the slope between two sizes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any, Literal

from rowtide.tiers.catalogue import load_catalogue

Kind = Literal["run", "killed", "floor", "sdk_loop", "peer"]
BATCHES = 20  # of a run that several workers share


@dataclass(frozen=True)
class Case:
    """One thing to measure, in a process, a ledger and an account of its own."""

    family: str
    rows: int
    what: str
    kind: Kind = "run"
    job: str = "one_turn"
    """A folder of benchmarks/jobs; of another package, its name."""
    source: str = "messages"
    engine: Literal["sqlite", "postgres"] = "sqlite"
    workers: int = 1
    changes: dict[str, Any] = field(default_factory=dict[str, Any])
    """To the job's job.yaml."""
    rules: tuple[dict[str, Any], ...] = ()
    """What goes wrong, as the emulator's plan of faults has it."""
    may_quarantine: float = 0.0
    """The largest share of rows that may be quarantined without this being a mistake."""
    batches: int | None = None
    """How many it must take."""
    in_short: bool = True
    """Whether `make bench` measures it; `make bench-full` measures all."""

    @property
    def name(self) -> str:
        return f"{self.family}-{size(self.rows)}"


def size(rows: int) -> str:
    """1000 → 1k, 1000000 → 1m."""
    for unit, letter in ((1_000_000, "m"), (1_000, "k")):
        if rows >= unit and rows % unit == 0:
            return f"{rows // unit}{letter}"
    return str(rows)


def cases() -> list[Case]:
    """All of them, in the order in which they are measured: the quick ones first, a million rows last."""
    return [
        *_sizes("one-turn", "one question, one answer", (1_000, 10_000, 100_000)),
        *_sizes("floor", "the least a program can do, with no memory of where it was", FLOOR, kind="floor"),
        *_sizes("sdk-loop", "the loop of the vendor's documents, with their SDK", FLOOR, kind="sdk_loop"),
        *_trips(),
        *_troubles(),
        *_killed(),
        *_postgres(),
        *_peers(),
        Case("one-turn", 1_000_000, "one question, one answer", in_short=False),
    ]


FLOOR = (20_000, 100_000)  # a smaller one is over before its CPU can be told from noise


def chosen(patterns: Sequence[str], *, full: bool) -> list[Case]:
    """The cases that are named, by name or pattern; without names, the short selection or all."""
    found = cases()
    if not patterns:
        return [each for each in found if full or each.in_short]
    unknown = [each for each in patterns if not any(fnmatch(case.name, each) for case in found)]
    if unknown:
        raise SystemExit(f"no case is called {', '.join(unknown)}; `python -m benchmarks --list` names them all")
    return [case for case in found if any(fnmatch(case.name, each) for each in patterns)]


def smaller(case: Case) -> Case | None:
    """The next smaller size of the same family: what a slope is taken against. What is left of a kill has none."""
    sizes = [each for each in cases() if each.family == case.family and each.rows < case.rows and case.kind != "killed"]
    return max(sizes, key=lambda each: each.rows, default=None)


def _sizes(family: str, what: str, sizes: Sequence[int], **more: Any) -> list[Case]:
    return [Case(family, rows, what, **more) for rows in sizes]


def _trips() -> list[Case]:
    some = {"may_quarantine": 0.01}  # the emulator's best mind is wrong once in some hundred rows, too
    memoised = {"job": "one_trip", "source": "parcels", **some}
    each = {"job": "one_trip", "source": "visits", "batches": 2, **some}
    three = {"job": "three_trips", "source": "orders", **some}
    return [
        *_sizes("one-trip", "one tool call a row, of which fifty differ: the rest is remembered", TEN, **memoised),
        Case("one-trip", 100_000, "one tool call a row, of which fifty differ", in_short=False, **memoised),
        *_sizes("two-turns", "one tool call a row, each another; two batches", (600, 6_000), **each),
        *_sizes("three-trips", "three tool calls a row, each needing the one before", THREE, **three),
    ]


TEN = (1_000, 10_000)
THREE = (1_000, 5_000)  # both take six batches: what a round costs once is in neither's slope


def _troubles() -> list[Case]:
    haiku, sonnet = (load_catalogue().tier(name).id for name in ("haiku", "sonnet"))
    tenth = ({"rows": {"share": 0.1, "seed": 1}, "result": {"errored": "invalid_request_error"}},)
    escalating = tuple({"rows": {"model": model}, "result": {"stop": "refusal"}} for model in (haiku, sonnet))
    ladder = {"tiers": ["haiku", "sonnet", "opus"], "escalation": {"yield_floor": 0}}
    return [
        *_sizes("tenth-quarantined", "one row in ten is refused by the API", TEN, rules=tenth, may_quarantine=0.12),
        *_sizes(
            "three-tiers", "every row escalates from haiku by sonnet to opus", TEN, rules=escalating, changes=ladder
        ),
    ]


def _killed() -> list[Case]:
    what = "SIGKILL at 90% of the whole run's CPU; the second life, after an undisturbed run"
    return [
        Case("killed", 50_000, what, kind="killed"),
        Case("killed", 200_000, what, kind="killed", in_short=False),
    ]


def _postgres() -> list[Case]:
    one = {"engine": "postgres"}
    found = _sizes("postgres", "one question, one answer; the ledger in PostgreSQL", TEN, **one)
    found += _sizes("postgres", "one question, one answer", (100_000,), in_short=False, **one)
    for rows, in_short in ((20_000, True), (100_000, False)):
        share = {"limits": {"batch_rows": rows // BATCHES, "enough_rows": rows // BATCHES}}
        for workers in (1, 2, 4):
            what = f"one run on PostgreSQL in {BATCHES} batches, by {workers} worker{'s' * (workers > 1)}"
            more: dict[str, Any] = {"workers": workers, "changes": share, "in_short": in_short and workers < 4}
            found.append(Case(f"workers-{workers}", rows, what, **one, **more))
    return found


PEERS: dict[str, dict[str, tuple[int, int]]] = {
    "pydantic-ai": {"one-turn": (200, 1_000), "one-trip": (200, 1_000)},
    "inspect-ai": {"one-turn": (200, 1_000), "one-trip": (200, 1_000)},
    "parallem": {"one-turn": (500, 3_000), "one-trip": (500, 3_000)},
    "batchwizard": {"one-turn": (2_000, 10_000)},
}
"""By peer and kind of work, two sizes that it bears in a few minutes. BatchWizard knows no tools."""


def _peers() -> list[Case]:
    sources = {"one-turn": "messages", "one-trip": "parcels"}
    return [
        Case(f"{peer}-{work}", rows, f"the same {work} rows by {peer}", "peer", peer, sources[work], in_short=False)
        for peer, works in PEERS.items()
        for work, sizes in works.items()
        for rows in sizes
    ]
