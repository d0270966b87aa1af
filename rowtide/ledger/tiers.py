"""Records how rows fared on each tier of a run's ladder, and which models are unavailable."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from rowtide.agent.agent import Escalate, RowAt
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.ledger import Run, from_timestamp, take_advisory_lock, to_timestamp
from rowtide.ledger.rows import MoveReason
from rowtide.text_format import format_duration
from rowtide.tiers.catalogue import Model
from rowtide.tiers.escalation import EscalationRules, Quotation, QuotedOutput, VisitCounts, build_quotation

WATCHED = ""  # stands for the reason: overloaded, but not for long enough


@dataclass(frozen=True, slots=True)
class UnavailableModel:
    """An unavailable model, whose fallback answers instead."""

    model_id: str
    since: str
    why: str


def escalate_up_the_ladder(
    tx: Connection, run: Run, rules: EscalationRules, escalating: Sequence[tuple[RowAt, Escalate]], *, now: datetime
) -> None:
    """Start rows afresh further up the ladder, and store the quotations for their new conversations."""
    if not escalating:
        return
    to = rules.next_tiers({row.tier for row, _ in escalating}, tier_visits(tx, run))
    quoted = _quotations(tx, escalating, rules.quote_chars) if rules.quote_chars else {}
    move_reasons = [
        MoveReason(row.row_no, row.turn - row.in_self_check, move.reason, move.detail) for row, move in escalating
    ]
    ledger_rows.escalate_rows(tx, move_reasons, {row.row_no: to[row.tier] for row, _ in escalating}, now=now)
    ledger_turns.write_quotations(tx, quoted, now=now)
    add_tier_visits(tx, run, escalations=Counter((row.tier, to[row.tier]) for row, _ in escalating))


def _quotations(tx: Connection, escalating: Sequence[tuple[RowAt, Escalate]], limit: int) -> dict[int, Quotation]:
    """Return each row's quotation: why it escalates, and tool outputs from here or quoted to it before."""
    before = ledger_turns.quotations(tx, [row for row, _ in escalating])
    here = ledger_turns.conversation_outputs(tx, [row.row_no for row, _ in escalating])
    found: dict[int, Quotation] = {}
    for row, move in escalating:
        earlier = before[row.row_no].outputs if row.row_no in before else []
        outputs = [*earlier, *(QuotedOutput(*each) for each in here.get(row.row_no, ()))]
        found[row.row_no] = build_quotation(f"{move.reason}: {move.detail}", outputs, limit)
    return found


def tier_visits(tx: Connection, run: Run) -> dict[int, VisitCounts]:
    """Return tier → how its rows have fared so far."""
    query = text("SELECT tier, accepted, escalated, quarantined, skipped FROM tier_visit WHERE run_no = :run")
    return {tier: VisitCounts(*counts) for tier, *counts in tx.execute(query, {"run": run.run_no})}


def add_tier_visits(
    tx: Connection,
    run: Run,
    *,
    accepted: Mapping[int, int] | None = None,
    quarantined: Mapping[int, int] | None = None,
    escalations: Mapping[tuple[int, int], int] | None = None,
) -> None:
    """Add to the counts: rows by tier; escalations by (tier left, tier reached)."""
    escalated, skipped = Counter[int](), Counter[int]()
    for (left, reached), rows in (escalations or {}).items():
        escalated[left] += rows
        skipped.update(dict.fromkeys(range(left + 1, reached), rows))
    counts = {"accepted": accepted or {}, "escalated": escalated, "quarantined": quarantined or {}, "skipped": skipped}
    tiers = sorted({tier for each in counts.values() for tier in each})
    if tiers:
        # The upsert takes several rows' locks: two at once could deadlock.
        take_advisory_lock(tx, f"tier visits {run.run_no}")
        added = ", ".join(f"{name} = tier_visit.{name} + excluded.{name}" for name in counts)
        tx.execute(
            text(
                f"INSERT INTO tier_visit (run_no, tier, {', '.join(counts)}) "
                f"VALUES (:run, :tier, {', '.join(':' + name for name in counts)}) "
                f"ON CONFLICT (run_no, tier) DO UPDATE SET {added}"
            ),
            [
                {"run": run.run_no, "tier": tier, **{name: each.get(tier, 0) for name, each in counts.items()}}
                for tier in tiers
            ],
        )


def unavailable_models(tx: Connection, run: Run) -> list[UnavailableModel]:
    """Return the models that are unavailable, the longest first, without those only watched."""
    query = text(
        "SELECT model, since, why FROM unavailable_model WHERE run_no = :run AND why <> :watched ORDER BY since, model"
    )
    return [UnavailableModel(*each) for each in tx.execute(query, {"run": run.run_no, "watched": WATCHED})]


def watched_models(tx: Connection, run: Run) -> set[str]:
    """Return the ids of models that were overloaded, but not for long enough."""
    query = text("SELECT model FROM unavailable_model WHERE run_no = :run AND why = :watched")
    return set(tx.execute(query, {"run": run.run_no, "watched": WATCHED}).scalars())


def declare_unavailable(tx: Connection, run: Run, model: Model, why: str, *, now: datetime) -> None:
    """Mark the model unavailable from now on."""
    _write(tx, run, model, why, now)


def record_overload(tx: Connection, run: Run, model: Model, *, now: datetime) -> bool:
    """Record that the model had no room for any row. Returns True once that has lasted too long: it is unavailable."""
    query = text("SELECT since FROM unavailable_model WHERE run_no = :run AND model = :model")
    since = tx.execute(query, {"run": run.run_no, "model": model.id}).scalar()
    if since is None:
        _write(tx, run, model, WATCHED, now)
        return False
    lasted = now - from_timestamp(since)
    if lasted <= timedelta(seconds=model.fall_back_after_seconds):
        return False
    _write(tx, run, model, f"overloaded for {format_duration(lasted.total_seconds())}", now)
    return True


def record_model_answered(tx: Connection, run: Run, model_ids: set[str]) -> None:
    """Stop watching these models: they answered."""
    if model_ids:
        tx.execute(
            text("DELETE FROM unavailable_model WHERE run_no = :run AND model = :model AND why = :watched"),
            [{"run": run.run_no, "model": each, "watched": WATCHED} for each in sorted(model_ids)],
        )


def _write(tx: Connection, run: Run, model: Model, why: str, now: datetime) -> None:
    tx.execute(
        text(
            "INSERT INTO unavailable_model (run_no, model, since, why) VALUES (:run, :model, :now, :why) "
            "ON CONFLICT (run_no, model) DO UPDATE SET since = excluded.since, why = excluded.why"
        ),
        {"run": run.run_no, "model": model.id, "now": to_timestamp(now), "why": why},
    )
