"""Ready rows as requests, with what each can cost at worst."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from rowtide.agent.agent import RowAt, room
from rowtide.agent.requests import Earlier, head, messages, params
from rowtide.job.job_code import JobCodeFailure
from rowtide.lanes.lane_table import Lane
from rowtide.ledger import lanes as ledger_lanes
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.rows import MoveReason
from rowtide.stages.job_code_faults import Tried, check_alike
from rowtide.stages.run_context import RunContext
from rowtide.tiers.catalogue import Model
from rowtide.tiers.escalation import as_message
from rowtide.tiers.pricing import worst_case_micro

# A token is at least a byte, so a request's bytes bound its tokens; this much the API may add in words of its own.
HIDDEN_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class Rendered:
    """A page of ready rows as requests with their worst cases, and the rows that cannot be rendered."""

    rows: list[RowAt]
    params: list[bytes]
    """What a live call sends, and a batch under `params`."""
    costs: list[int]
    """In micro-dollars."""
    models: Sequence[Model]
    """Who answers for each tier."""
    failures: dict[int, JobCodeFailure]
    """Of the rows whose prompt or rubric cannot be filled."""
    unfit: list[MoveReason]
    """The same rows, and others that cannot be sent."""


def render(context: RunContext, page: Sequence[RowAt], *, lane: Lane, now: datetime) -> Rendered:
    """Write the next request of each row. One whose prompt cannot be filled is unfit.

    Raises StoppedByJob when most of the run's first rows fail alike there.
    """
    with context.ledger.view() as tx:
        contents = ledger_turns.contents(tx, [row.row_no for row in page])
        talks = ledger_turns.conversations(tx, [row for row in page if not row.checking])
        answers = ledger_turns.answers(tx, [row.row_no for row in page if row.checking])
        quoted = ledger_turns.quotations(tx, page)
    rendered = Rendered([], [], [], context.standing(), {}, [])
    for row in page:
        values, asked = orjson.loads(contents[row.row_no]), context.asked(row)
        model, own = rendered.models[asked], context.models[asked]
        effort = None if row.checking else model.effort(row.effort)
        if row.checking:
            rubric, shared = context.rubric
            text = rubric.message_for(values, answers[row.row_no])
        else:
            shared = context.prefix(row.prefix_no, effort)
            text = context.job.message_for(values)
        if isinstance(text, JobCodeFailure):
            rendered.failures[row.row_no] = text
            rendered.unfit.append(MoveReason(row.row_no, row.turn, text.reason, text.words))
            continue
        if row.checking:
            said = messages(text)
        else:
            first = as_message(text, quoted.get(row.row_no))
            earlier = _earlier(context, row) if lane.in_order else ()
            said = messages(first, talks.get(row.row_no, ()), None if model is own else model.alias, earlier)
        tokens = min(room(context.job.spec, row), model.max_output_tokens)
        body = params(head(model.id, tokens, model.thinking_at(effort)), shared, said)
        rendered.rows.append(row)
        rendered.params.append(body)
        rendered.costs.append(worst_case_micro(model, len(body) + HIDDEN_TOKENS, tokens, lane=lane))
    if rendered.failures:
        _check_alike(context, "prompt", [row.row_no for row in page if not row.checking], rendered, now)
        _check_alike(context, "rubric", [row.row_no for row in page if row.checking], rendered, now)
    return rendered


def _check_alike(context: RunContext, what: Tried, tried: Sequence[int], rendered: Rendered, now: datetime) -> None:
    failures = [rendered.failures[row_no] for row_no in tried if row_no in rendered.failures]
    check_alike(context, what, failures, len(tried), now=now)


def _earlier(context: RunContext, row: RowAt) -> list[Earlier]:
    """The verified rows before this one, as messages and answers."""
    with context.ledger.view() as tx:
        found = ledger_lanes.earlier(tx, context.run, row.row_no, at_least=context.job.spec.live.earlier_rows)
    told = [(context.job.message_for(orjson.loads(content)), answer.decode()) for content, answer in found]
    return [(text, answer) for text, answer in told if isinstance(text, str)]
