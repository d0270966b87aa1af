"""Computes what a run cost, by tier, lane and turn, and what alternatives would have cost."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, text

from rowtide.agent.states import RowState
from rowtide.lanes.lane_table import BATCH, LANES
from rowtide.ledger.ledger import Run
from rowtide.ledger.tiers import tier_visits
from rowtide.tiers.catalogue import Catalogue, Model
from rowtide.tiers.escalation import VisitCounts
from rowtide.tiers.pricing import MICRO

Key = TypeVar("Key", int, str)

CHECK = " (check)"  # suffix of the name of a tier that takes self-checks
ACCEPTED = (RowState.ACCEPTED, RowState.LOADED)

SUMS = (
    "sum(t.cost_micro), sum(t.baseline_micro), sum(t.input_tokens), sum(t.cache_write_tokens), "
    "sum(t.cache_read_tokens), sum(t.output_tokens)"
)


@dataclass(frozen=True, slots=True)
class TurnGroup:
    """Turns that are alike, with their sums in micro-dollars and tokens."""

    tier: int
    model: str | None
    lane: str
    turn: int
    step: int
    """The highest price step (in prompt tokens) that their prompts exceeded."""
    is_last: int
    """1 if they belong to their rows' last conversation."""
    turns: int
    cost_micro: int
    baseline_micro: int
    input_tokens: int
    cache_write_tokens: int
    cache_read_tokens: int
    output_tokens: int

    @property
    def prompt_tokens(self) -> int:
        return self.input_tokens + self.cache_write_tokens + self.cache_read_tokens


def set_budget(tx: Connection, run: Run, micro: int) -> None:
    """Set the run's budget, in micro-dollars."""
    changed = text("UPDATE run SET budget_micro = :micro WHERE run_no = :run")
    tx.execute(changed, {"micro": micro, "run": run.run_no})


def group_turns(tx: Connection, run: Run, catalogue: Catalogue) -> list[TurnGroup]:
    """Return all the run's turns in groups, from one query."""
    steps = sorted({step for model in catalogue.models.values() for step in model.prices if step}, reverse=True)
    prompt = "t.input_tokens + t.cache_write_tokens + t.cache_read_tokens"
    step = " ".join(f"WHEN {prompt} > {each} THEN {each}" for each in steps)
    query = text(
        f"SELECT t.tier, t.model, coalesce(b.lane, '{BATCH.name}') lane, t.turn, "
        f"{f'CASE {step} ELSE 0 END' if step else '0'} step, "
        f"CASE WHEN t.turn > r.conversation_from THEN 1 ELSE 0 END is_last, count(*), {SUMS} "
        "FROM turn t JOIN row r ON r.row_no = t.row_no LEFT JOIN batch b ON b.batch_no = t.batch_no "
        "WHERE t.row_no BETWEEN :first AND :last GROUP BY 1, 2, 3, 4, 5, 6"
    )
    values = {"first": run.first_row_no, "last": run.last_row_no}
    # PostgreSQL sums integers into decimals.
    return [TurnGroup(*each[:6], *map(int, each[6:])) for each in tx.execute(query, values).all()]


def money_summary(tx: Connection, run: Run, groups: Sequence[TurnGroup], catalogue: Catalogue) -> dict[str, Any]:
    """Return the run's replies and their cost in US dollars: in all, by tier, by lane, by turn."""
    otherwise = alternative_costs(run, groups, catalogue)
    return {
        "turns": sum(each.turns for each in groups),
        "cost_usd": sum(each.cost_micro for each in groups) / MICRO,
        "baseline_cost_usd": otherwise["one_model_live"],
        "baselines_usd": otherwise,
        "tiers": tier_summary(tx, run, groups),
        "lanes": _shown(_by(groups, lambda each: each.lane)),
        "by_turn": _shown(_by(groups, lambda each: each.turn)),
        "hurry_usd": cost_of_going_live(run, groups, catalogue),
    }


def cost_of_going_live(run: Run, groups: Sequence[TurnGroup], catalogue: Catalogue) -> float:
    """Return how much more the live replies cost than batches would have, in US dollars."""
    names = [name.removesuffix(CHECK) for name in orjson.loads(run.tiers)]
    live = [each for each in groups if not LANES[each.lane].in_batches]
    models = [catalogue.models.get(each.model or names[each.tier]) for each in live]
    more = (each.cost_micro * (1 - model.batch_share) for each, model in zip(live, models, strict=True) if model)
    return float(sum(more) / MICRO)


def tier_summary(tx: Connection, run: Run, groups: Sequence[TurnGroup]) -> dict[str, dict[str, Any]]:
    """Return how each tier fared: rows in, rows out by outcome, replies, US dollars, yield and cost per row.

    The yield is the share of accepted rows among those that left the tier: accepted, escalated or quarantined.
    """
    names: list[str] = orjson.loads(run.tiers)
    query = text("SELECT tier, state, count(*) FROM row WHERE run_no = :run AND turn > 0 GROUP BY tier, state")
    rows: dict[int, dict[RowState, int]] = defaultdict(dict)
    for tier, state, count in tx.execute(query, {"run": run.run_no}):
        rows[tier][RowState(state)] = count
    left, cost = tier_visits(tx, run), _by(groups, lambda each: each.tier)
    return {
        names[tier]: _fared(rows[tier], left.get(tier, VisitCounts()), turns, micro)
        for tier, (turns, micro) in sorted(cost.items())
    }


def alternative_costs(run: Run, groups: Sequence[TurnGroup], catalogue: Catalogue) -> dict[str, float | None]:
    """Return alternative costs of the run, in US dollars, from the tokens it used.

    `one_model_live`: every row's last conversation, live on the top tier alone, assuming that this model would have
    used as many tokens, hit the cache as often, and needed as many corrections; without self-checks and conversations
    on lower tiers. `one_model_batch`: the same in batches. `ladder_live`: all turns by their own models, live and
    uncached, every prompt token at the full price. Values are None where the catalogue no longer knows a model.
    """
    names = [name.removesuffix(CHECK) for name in orjson.loads(run.tiers)]
    ladder = [name for name in orjson.loads(run.tiers) if not name.endswith(CHECK)]
    live = sum(each.baseline_micro for each in groups if each.is_last)
    top = catalogue.models.get(ladder[-1])
    models = [catalogue.models.get(each.model or names[each.tier]) for each in groups]
    uncached = [_uncached(model, each) for model, each in zip(models, groups, strict=True) if model]
    return {
        "one_model_live": live / MICRO,
        "one_model_batch": float(live * top.batch_share / MICRO) if top else None,
        "ladder_live": None if None in models else float(sum(uncached) / MICRO),
    }


def _uncached(model: Model, group: TurnGroup) -> Decimal:
    price = model.price_at(group.step + 1)
    return group.prompt_tokens * price.input + group.output_tokens * price.output


def _fared(rows: dict[RowState, int], left: VisitCounts, turns: int, micro: int) -> dict[str, Any]:
    ended, accepted = sum(rows.values()), sum(rows.get(state, 0) for state in ACCEPTED)
    quarantined = rows.get(RowState.QUARANTINED, 0)
    gone = accepted + left.escalated + quarantined
    return {
        "in": ended + left.escalated,
        "accepted": accepted,
        "escalated": left.escalated,
        "quarantined": quarantined,
        "skipped": left.skipped,
        "rows": ended,
        "yield": accepted / gone if gone else None,
        "turns": turns,
        "cost_usd": micro / MICRO,
        "accepted_row_usd": micro / MICRO / accepted if accepted else None,
    }


def _by(groups: Sequence[TurnGroup], key: Callable[[TurnGroup], Key]) -> dict[Key, tuple[int, int]]:
    """Return replies and micro-dollars by `key`."""
    found: dict[Key, tuple[int, int]] = {}
    for each in groups:
        turns, micro = found.get(key(each), (0, 0))
        found[key(each)] = turns + each.turns, micro + each.cost_micro
    return found


def _shown(found: dict[Any, tuple[int, int]]) -> dict[str, dict[str, Any]]:
    return {str(key): {"turns": turns, "cost_usd": micro / MICRO} for key, (turns, micro) in sorted(found.items())}
