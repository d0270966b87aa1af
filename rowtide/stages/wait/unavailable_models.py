"""Notes models that the API does not give us, and falls back on others."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rowtide.agent.agent import RowAt
from rowtide.agent.outcome_policies import ERRORS
from rowtide.agent.reply_parsing import Outcome, Replied, Unanswered
from rowtide.ledger import tiers as ledger_tiers
from rowtide.stages.run_context import RunContext
from rowtide.tiers.catalogue import Model
from rowtide.tiers.escalation import resolve_model

NOT_FOUND, OVERLOADED = ERRORS["not_found_error"], ERRORS["overloaded_error"]


@dataclass(slots=True)
class FallbackPage:
    """What happens to a page of outcomes because a model is unavailable."""

    recalled: set[int] = field(default_factory=set)
    """Rows that are sent again, to a fallback."""
    stop: str | None = None
    """The message for a person when there is no fallback."""


def note_model_availability(
    context: RunContext, models: Sequence[Model], outcomes: Sequence[tuple[RowAt, Outcome]], *, now: datetime
) -> FallbackPage:
    """Note which of the asked `models` are unavailable by these outcomes, and which answer again."""
    fallen, unanswered = FallbackPage(), defaultdict[tuple[int, str], list[tuple[RowAt, Unanswered]]](list)
    answered: set[str] = set()
    for row, outcome in outcomes:
        if isinstance(outcome, Replied):
            answered.add(models[context.asked(row)].id)
        elif _is_of_the_model(outcome, models[context.asked(row)]):
            unanswered[context.asked(row), outcome.policy.reason].append((row, outcome))
    _answering_models(context, answered)
    for (asked, reason), rows in unanswered.items():
        model, words = models[asked], rows[0][1].detail
        if reason == NOT_FOUND.reason:
            fallen.stop = note_missing_model(context, asked, model, words, now=now) or fallen.stop
        elif model.id in answered or not note_overloaded_model(context, asked, model, now=now):
            continue
        fallen.recalled |= {row.row_no for row, _ in rows}
    return fallen


def note_missing_model(context: RunContext, asked: int, model: Model, why: str, *, now: datetime) -> str | None:
    """Note that the API has no such model. `asked` is its index in `context.models`; `model` is the one that was asked.

    Returns None when a fallback takes over; else the message for a person: the run cannot go on.
    """
    out = _out(context)
    if not _has_fallback(context, asked, model, out):
        return context.catalogue.unknown_id(model.alias)
    if model.id not in out:
        with context.ledger.page() as tx:
            ledger_tiers.declare_unavailable(tx, context.run, model, why, now=now)
    return None


def note_overloaded_model(context: RunContext, asked: int, model: Model, *, now: datetime) -> bool:
    """Note that the model was overloaded. Returns True once it is unavailable and a fallback takes over: no row
    bounces.
    """
    out = _out(context)
    if not _has_fallback(context, asked, model, out):
        return False
    with context.ledger.page() as tx:
        return model.id in out or ledger_tiers.record_overload(tx, context.run, model, now=now)


def _answering_models(context: RunContext, model_ids: set[str]) -> None:
    """Stop watching those of these models that were overloaded: they answered."""
    with context.ledger.view() as tx:
        watched = ledger_tiers.watched_models(tx, context.run)
    if back := watched & model_ids:
        with context.ledger.page() as tx:
            ledger_tiers.record_model_answered(tx, context.run, back)


def _is_of_the_model(outcome: Unanswered, model: Model) -> bool:
    return outcome.policy is OVERLOADED or (outcome.policy is NOT_FOUND and model.id in outcome.detail)


def _out(context: RunContext) -> set[str]:
    with context.ledger.view() as tx:
        return {each.model_id for each in ledger_tiers.unavailable_models(tx, context.run)}


def _has_fallback(context: RunContext, asked: int, model: Model, out: set[str]) -> bool:
    return resolve_model(context.catalogue, context.models[asked], out | {model.id}).id != model.id
