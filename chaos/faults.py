"""Whatever goes wrong: a plan of faults drawn at random, over a small job drawn at random, with a kill now and then.

There is no undisturbed run to compare with. What must hold of any end is held against it: the counts add up, the sink
has what the ledger says, the API billed what the ledger counted, and never more than the budget.
"""

import json
import random
import shutil
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import yaml

from chaos.endings import ending_of
from chaos.kill import SOONEST_SECONDS, Failure, Ground, Result, Trial
from chaos.lives import AT_THE_BUDGET, SMALL, STOPPED_BY_WORLD, Home, begin, emulator, ended, kill, live

Rule = dict[str, Any]

MOST_LIVES = 14
PATIENT_LIVES = 6  # after so many that were stopped, whoever broke the API mends it
MICRO = 1_000_000

ONCE = {"nth": 1}
RULES: list[Rule] = [
    *({"call": "create", **ONCE, "do": do} for do in (
        {"drop": "before"}, {"drop": "after"}, {"status": 500}, {"status": 500, "moment": "after"}, {"status": 413},
        {"status": 529, "moment": "after"}, {"status": 429, "retry_after": 0.1}, {"garbage": "html"},
        {"garbage": "json"}, {"hang_seconds": 0.2, "then": "drop", "moment": "after"},
    )),
    {"call": "create", "share": 0.3, "do": {"drop": "after"}},
    {"call": "create", "share": 0.3, "seed": 1, "do": {"status": 529}},
    {"call": "list", "do": {"lag_seconds": 0.3}},
    {"call": "list", "share": 0.3, "do": {"status": 500}},
    {"call": "retrieve", "first": 2, "do": {"status": 404}},
    {"call": "retrieve", "share": 0.3, "do": {"status": 529, "retry_after": 0.1}},
    {"call": "retrieve", "share": 0.2, "seed": 2, "do": {"drop": "before"}},
    *({"call": "results", "first": 2, "do": do} for do in (
        {"cut_after_lines": 2}, {"cut_mid_line": 2}, {"end_after_lines": 2}, {"cut_mid_line_cleanly": 2},
        {"garbage_line": 1}, {"repeat_lines": True}, {"shuffle": True}, {"no_last_newline": True},
        {"status": 404}, {"status": 500}, {"drop": "before"}, {"garbage": "html"},
    )),
    *({"rows": {"share": 0.4, "seed": seed, "attempts": 1}, "result": result} for seed, result in enumerate((
        {"errored": "api_error"}, {"errored": "overloaded_error"}, {"errored": "rate_limit_error"}, "expired",
        "canceled", {"errored": "credit"}, {"errored": "authentication_error"}, {"stop": "max_tokens"},
        {"block": "hologram"}, "not_json",
    ))),
    *({"rows": {"share": 0.2, "seed": 100 + seed}, "result": result} for seed, result in enumerate((
        {"errored": "api_error"}, {"errored": "invalid_request_error"}, {"stop": "refusal"}, {"stop": "moon"},
        {"stop": "max_tokens"}, "missing",
    ))),
    *({"batch": ONCE, "do": do} for do in (
        {"canceled": 0.5}, {"expired": 0.5}, {"deleted": True}, {"archived": True}, {"seconds": 0.4},
        {"invisible_seconds": 0.3}, {"partial_counts": True, "seconds": 0.3},
    )),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A small job, what goes wrong with it, and when it is killed (seconds into its first life; None: never)."""

    rules: Sequence[Rule]
    rows: int
    batch_rows: int
    bounces: int
    budget: float | None = None
    killed_after: float | None = None

    def __str__(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__slots__})


def any_faults(here: Ground, times: int, *, seed: int = 0) -> Result:
    """Draw so many disturbances, and see each run to its end."""
    chance = random.Random(seed)
    trials = [partial(endure, here.folder / f"faults-{seed}-{number}", _drawn(chance)) for number in range(times)]
    return here.try_all("faults by a random plan", trials)


def endure(folder: Path, given: Disturbance) -> Trial:
    """Run a disturbed job, again and again while it stops, and hold its end against what must always be."""
    folder.mkdir(parents=True)
    plan = folder / "plan.yaml"
    plan.write_text(yaml.safe_dump(list(given.rules)))
    with emulator(folder / "api", "0..0.05", plan) as url:
        home = Home(folder / "home", url, _job(folder / "job", given), given.budget)
        failures, lives = _lives(home, given)
        _edit(home)  # whoever judges the end must not meet the faults
        return Trial(str(given), lives, failures or [Failure(*each) for each in _wrong(home, given)])


def _drawn(chance: random.Random) -> Disturbance:
    return Disturbance(
        rules=chance.sample(RULES, chance.randint(1, 4)),
        rows=chance.randint(1, 24),
        batch_rows=chance.randint(4, 30),
        bounces=chance.randint(0, 3),
        budget=chance.choice([None, None, chance.uniform(0.0002, 0.005)]),
        killed_after=chance.choice([None, chance.uniform(SOONEST_SECONDS, 1.5)]),
    )


def _job(folder: Path, given: Disturbance) -> Path:
    shutil.copytree(SMALL, folder)
    spec = yaml.safe_load((folder / "job.yaml").read_text())
    spec["limits"] |= {"batch_rows": given.batch_rows, "bounces": given.bounces}
    (folder / "job.yaml").write_text(yaml.safe_dump(spec))
    head, *lines = (folder / "rows.csv").read_text().splitlines()
    rows = [f"r{number}{line[line.index(',') :]}" for number, line in enumerate(lines * 4)][: given.rows]
    (folder / "rows.csv").write_text("\n".join([head, *rows]) + "\n")
    return folder


def _lives(home: Home, given: Disturbance) -> tuple[list[Failure], int]:
    """Live until the run ends. Returns what went wrong on the way, and how many lives it took."""
    if given.killed_after is not None:
        first = begin(home)
        time.sleep(given.killed_after)
        if ended(first) is None:
            kill(first)
    for lives in range(1, MOST_LIVES):
        status = live(home)
        if home.budget is not None and _billed(home) > home.budget * MICRO:
            return [Failure("money differs", str(given), f"${_billed(home) / MICRO} billed of ${home.budget}")], lives
        if status == 0:
            return [], lives
        if status == AT_THE_BUDGET:
            assert home.budget is not None
            home = replace(home, budget=home.budget * 4)
        elif status == STOPPED_BY_WORLD or lives >= PATIENT_LIVES:
            _edit(home)
    return [Failure("did not end", str(given), f"{home.last_words()}; see {home.log}")], MOST_LIVES


def _wrong(home: Home, given: Disturbance) -> list[tuple[Any, str, str]]:
    """What must hold of any end, and does not."""
    end = ending_of(home)
    states = [state for state, _, _ in end.rows.values()]
    loaded = {key for key, (state, _, _) in end.rows.items() if state == "loaded"}
    turns, orphaned, never_taken = _of_ledger(home)
    if any(rule.get("do", {}).get("deleted") for rule in given.rules):
        orphaned += never_taken  # deleted before it was ever listed: no trace of it is left anywhere
    wrong: list[tuple[Any, str]] = []
    if len(end.rows) != given.rows or set(states) - {"loaded", "quarantined", "held"}:
        wrong.append(("row lost", f"{given.rows} rows became {sorted(states)}"))
    if loaded != set(end.results):
        wrong.append(("row lost", f"{sorted(loaded ^ set(end.results))} differ between ledger and sink"))
    if end.twice:
        wrong.append(("row loaded twice", ", ".join(end.twice)))
    # What the API billed for a batch that was lost, nobody here can know.
    if not orphaned and turns != end.billed_requests:
        wrong.append(("batch paid twice", f"{end.billed_requests} replies were billed, {turns} are known"))
    if not orphaned and end.cost_micro != end.billed_micro:
        wrong.append(("money differs", f"the ledger says {end.cost_micro}, the API billed {end.billed_micro}"))
    return [(kind, str(given), detail) for kind, detail in wrong]


def _of_ledger(home: Home) -> tuple[int, int, int]:
    """How many replies the ledger has, how many batches were lost, and how many it believes were never taken."""
    with closing(sqlite3.connect(home.folder / "ledger.db")) as ledger:
        (turns,) = ledger.execute("SELECT count(*) FROM turn").fetchone()
        (orphaned,) = ledger.execute("SELECT count(*) FROM batch WHERE state = 'orphaned'").fetchone()
        (never_taken,) = ledger.execute("SELECT count(*) FROM batch WHERE detail = 'never_taken'").fetchone()
    return turns, orphaned, never_taken


def _billed(home: Home) -> int:
    return _ask(home, f"/_emulator/ledger?api_key={home.account}")["account"]["cost_micro"]


def _edit(home: Home) -> None:
    _ask(home, "/_emulator/faults", method="DELETE")


def _ask(home: Home, path: str, method: str = "GET") -> Any:
    with urlopen(Request(home.api_url + path, method=method), timeout=60) as answer:
        return json.loads(answer.read() or b"null")
