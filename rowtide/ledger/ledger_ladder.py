"""What a run has learnt of its ladder: how rows fared on each rung, and which models the API does not give us."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from rowtide.agent.agent import Escalate, RowAt
from rowtide.job.job import JobSpec
from rowtide.ladder.catalogue import Model
from rowtide.ladder.ladder import Output, Quotation, Stays, next_tier, quotation
from rowtide.ledger import ledger_rows, ledger_turns
from rowtide.ledger.ledger import Run, moment, take_turn, timestamp
from rowtide.ledger.ledger_rows import Remark
from rowtide.words import took

WATCHED = ""  # instead of a reason: overloaded, but not for long enough


@dataclass(frozen=True, slots=True)
class Outage:
    """A model that others stand in for."""

    model_id: str
    since: str
    why: str


def climb(
    tx: Connection, run: Run, spec: JobSpec, climbing: Sequence[tuple[RowAt, Escalate]], *, now: datetime
) -> None:
    """Start rows afresh further up the ladder. What is quoted to them is written down for good."""
    if not climbing:
        return
    fared = stays(tx, run)
    to = {row.tier: next_tier(len(spec.tiers), row.tier, fared, spec.escalation) for row, _ in climbing}
    quoted = _quotations(tx, climbing, spec.limits.tool_output_chars) if spec.escalation.quote else {}
    remarks = [Remark(row.row_no, row.turn - row.checking, move.reason, move.detail) for row, move in climbing]
    ledger_rows.escalate(tx, remarks, {row.row_no: to[row.tier] for row, _ in climbing}, now=now)
    ledger_turns.quote(tx, quoted, now=now)
    count_stays(tx, run, climbs=Counter((row.tier, to[row.tier]) for row, _ in climbing))


def _quotations(tx: Connection, climbing: Sequence[tuple[RowAt, Escalate]], limit: int) -> dict[int, Quotation]:
    """What each row is told: why it climbs, and what tools said to it here or were quoted to it from below."""
    before = ledger_turns.quotations(tx, [row for row, _ in climbing])
    here = ledger_turns.outputs_here(tx, [row.row_no for row, _ in climbing])
    found: dict[int, Quotation] = {}
    for row, move in climbing:
        earlier = before[row.row_no].outputs if row.row_no in before else []
        outputs = [*earlier, *(Output(*each) for each in here.get(row.row_no, ()))]
        found[row.row_no] = quotation(f"{move.reason}: {move.detail}", outputs, limit)
    return found


def stays(tx: Connection, run: Run) -> dict[int, Stays]:
    """How the rows of each rung fared so far."""
    query = text("SELECT tier, accepted, climbed, set_aside, skipped FROM stay WHERE run_no = :run")
    return {tier: Stays(*counts) for tier, *counts in tx.execute(query, {"run": run.run_no})}


def count_stays(
    tx: Connection,
    run: Run,
    *,
    accepted: Mapping[int, int] | None = None,
    set_aside: Mapping[int, int] | None = None,
    climbs: Mapping[tuple[int, int], int] | None = None,
) -> None:
    """Add to the counts: rows by rung; climbs by the rung they left and the one they came to."""
    climbed, skipped = Counter[int](), Counter[int]()
    for (left, reached), rows in (climbs or {}).items():
        climbed[left] += rows
        skipped.update(dict.fromkeys(range(left + 1, reached), rows))
    counts = {"accepted": accepted or {}, "climbed": climbed, "set_aside": set_aside or {}, "skipped": skipped}
    tiers = sorted({tier for each in counts.values() for tier in each})
    if tiers:
        take_turn(tx, f"stays {run.run_no}")  # a page counts more than once, so no order keeps two from a deadlock
        added = ", ".join(f"{name} = stay.{name} + excluded.{name}" for name in counts)
        tx.execute(
            text(
                f"INSERT INTO stay (run_no, tier, {', '.join(counts)}) "
                f"VALUES (:run, :tier, {', '.join(':' + name for name in counts)}) "
                f"ON CONFLICT (run_no, tier) DO UPDATE SET {added}"
            ),
            [
                {"run": run.run_no, "tier": tier, **{name: each.get(tier, 0) for name, each in counts.items()}}
                for tier in tiers
            ],
        )


def outages(tx: Connection, run: Run) -> list[Outage]:
    """The models that are out, the longest first. One that is only watched is not among them."""
    query = text("SELECT model, since, why FROM outage WHERE run_no = :run AND why <> :watched ORDER BY since, model")
    return [Outage(*each) for each in tx.execute(query, {"run": run.run_no, "watched": WATCHED})]


def watched(tx: Connection, run: Run) -> set[str]:
    """The ids of models that have been overloaded, but not for long enough."""
    query = text("SELECT model FROM outage WHERE run_no = :run AND why = :watched")
    return set(tx.execute(query, {"run": run.run_no, "watched": WATCHED}).scalars())


def declare(tx: Connection, run: Run, model: Model, why: str, *, now: datetime) -> None:
    """The model is out from now on."""
    _write(tx, run, model, why, now)


def overloaded(tx: Connection, run: Run, model: Model, *, now: datetime) -> bool:
    """The model had no room for any row. True when that has lasted too long: it is now out."""
    query = text("SELECT since FROM outage WHERE run_no = :run AND model = :model")
    since = tx.execute(query, {"run": run.run_no, "model": model.id}).scalar()
    if since is None:
        _write(tx, run, model, WATCHED, now)
        return False
    lasted = now - moment(since)
    if lasted <= timedelta(seconds=model.fall_back_after_seconds):
        return False
    _write(tx, run, model, f"overloaded for {took(lasted.total_seconds())}", now)
    return True


def answered(tx: Connection, run: Run, model_ids: set[str]) -> None:
    """These models answered: they are watched no more."""
    if model_ids:
        tx.execute(
            text("DELETE FROM outage WHERE run_no = :run AND model = :model AND why = :watched"),
            [{"run": run.run_no, "model": each, "watched": WATCHED} for each in sorted(model_ids)],
        )


def _write(tx: Connection, run: Run, model: Model, why: str, now: datetime) -> None:
    tx.execute(
        text(
            "INSERT INTO outage (run_no, model, since, why) VALUES (:run, :model, :now, :why) "
            "ON CONFLICT (run_no, model) DO UPDATE SET since = excluded.since, why = excluded.why"
        ),
        {"run": run.run_no, "model": model.id, "now": timestamp(now), "why": why},
    )
