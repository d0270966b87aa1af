"""Builds the requests of ready rows, with the worst-case cost of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from rowtide.agent.agent import RowAt, max_reply_tokens
from rowtide.agent.requests import Earlier, conversation_messages, request_params, tier_keys
from rowtide.job.job_code import JobCodeFailure
from rowtide.lanes.lane_table import Lane
from rowtide.ledger import live_calls as ledger_live_calls
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.rows import MoveReason
from rowtide.stages.job_code_faults import Tried, check_job_wide_fault
from rowtide.stages.run_context import RunContext
from rowtide.tiers.catalogue import Model
from rowtide.tiers.escalation import message_with_quotation
from rowtide.tiers.pricing import worst_case_micro

# A token is at least a byte, so a request's bytes bound its tokens; the API may add so many of its own.
HIDDEN_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """The requests of a page of rows with their worst cases, and the rows for which none can be built."""

    rows: list[RowAt]
    params: list[bytes]
    """What a live call sends, and a batch under `params`."""
    costs: list[int]
    """Worst cases, in micro-dollars."""
    models: Sequence[Model]
    """The models that answer for each tier."""
    failures: dict[int, JobCodeFailure]
    """Rows whose prompt or rubric cannot be filled."""
    unfit: list[MoveReason]
    """The same rows, and others that cannot be sent, with reasons."""


def render_page(context: RunContext, page: Sequence[RowAt], *, lane: Lane, now: datetime) -> RenderedPage:
    """Build the next request of each row. A row whose prompt cannot be filled is unfit.

    Raises StoppedByJob when most of the run's first rows fail alike there.
    """
    with context.ledger.view() as tx:
        contents = ledger_turns.row_contents(tx, [row.row_no for row in page])
        talks = ledger_turns.conversations(tx, [row for row in page if not row.in_self_check])
        answers = ledger_turns.row_answers(tx, [row.row_no for row in page if row.in_self_check])
        quoted = ledger_turns.quotations(tx, page)
    rendered = RenderedPage([], [], [], context.standing(), {}, [])
    for row in page:
        values, asked = orjson.loads(contents[row.row_no]), context.asked(row)
        model, own = rendered.models[asked], context.models[asked]
        effort = None if row.in_self_check else model.effort(row.effort)
        if row.in_self_check:
            rubric, shared = context.rubric
            text = rubric.message_for(values, answers[row.row_no])
        else:
            shared = context.prefix(row.prefix_no, effort)
            text = context.job.message_for(values)
        if isinstance(text, JobCodeFailure):
            rendered.failures[row.row_no] = text
            rendered.unfit.append(MoveReason(row.row_no, row.turn, text.reason, text.words))
            continue
        if row.in_self_check:
            messages = conversation_messages(text)
        else:
            first = message_with_quotation(text, quoted.get(row.row_no))
            earlier = _earlier(context, row) if lane.in_order else ()
            messages = conversation_messages(
                first, talks.get(row.row_no, ()), None if model is own else model.alias, earlier
            )
        tokens = min(max_reply_tokens(context.job.spec, row), model.max_output_tokens)
        body = request_params(tier_keys(model.id, tokens, model.thinking_at(effort)), shared, messages)
        rendered.rows.append(row)
        rendered.params.append(body)
        rendered.costs.append(worst_case_micro(model, len(body) + HIDDEN_TOKENS, tokens, lane=lane))
    if rendered.failures:
        _check_alike(context, "prompt", [row.row_no for row in page if not row.in_self_check], rendered, now)
        _check_alike(context, "rubric", [row.row_no for row in page if row.in_self_check], rendered, now)
    return rendered


def _check_alike(context: RunContext, what: Tried, tried: Sequence[int], rendered: RenderedPage, now: datetime) -> None:
    failures = [rendered.failures[row_no] for row_no in tried if row_no in rendered.failures]
    check_job_wide_fault(context, what, failures, len(tried), now=now)


def _earlier(context: RunContext, row: RowAt) -> list[Earlier]:
    """Return the verified rows before this one, as messages and answers."""
    with context.ledger.view() as tx:
        found = ledger_live_calls.earlier_answers(
            tx, context.run, row.row_no, at_least=context.job.spec.live.earlier_rows
        )
    examples = [(context.job.message_for(orjson.loads(content)), answer.decode()) for content, answer in found]
    return [(text, answer) for text, answer in examples if isinstance(text, str)]
