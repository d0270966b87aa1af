"""Asks the model about the rows of the live lanes: one API call at a time for each row, and no batches."""

import secrets
from datetime import datetime
from functools import partial

import orjson

from configuration.claude_settings import ClaudeSettings
from configuration.ledger_settings import LedgerSettings
from orchestration.durable import durable
from rowtide import clock
from rowtide.lanes.lane_table import Lane
from rowtide.ledger import ledger as ledgers
from rowtide.stages.amend.rows_to_version import adopt_run_version
from rowtide.stages.converse.live_calls import LiveCallPool, OnText
from rowtide.stages.follow_up.apply_moves import follow_up_rows
from rowtide.stages.route.lane_choice import lane_of_ready_rows
from rowtide.stages.run_context import WRITTEN, RunContext, load_gate, open_tool_pool
from rowtide.stages.submit.budget import exceeded_budget
from rowtide.stages.validate.answers_gate import judge_answers
from rowtide.tools.tools import ToolPool


@durable
async def converse(run_id: str) -> int:
    """Take the rows of a live lane through their conversations, as far as the budget allows. Returns how many replied.

    Rows of the batch lane are left to the other stages.
    """
    credentials = await ClaudeSettings.in_force()
    database = await LedgerSettings.in_force()
    async with database.get_run_if_free(run_id) as context, credentials.get_client(context.run) as claude:
        if not context.worker.is_alone:
            return 0  # another worker sends
        if (lane := lane_of_ready_rows(context, now=_now())).in_batches or context.run.stopped:
            return 0
        adopt_run_version(context, clock=_now)
        on_text = _writer(context) if lane.shows_words else None
        live = LiveCallPool(context, claude, lane, tag=secrets.token_hex(6), clock=_now, on_text=on_text)
        async with open_tool_pool(context.job, context.environment, context.servers) as pool:
            replied = await live.run(partial(_follow, context, pool, lane))
        if live.budget_exhausted:
            with context.ledger.page() as tx:
                why = exceeded_budget(context, live.budget_exhausted.next_micro)
                ledgers.stop_run(tx, context.run, why, next_micro=live.budget_exhausted.next_micro)
        return replied


async def _follow(context: RunContext, pool: ToolPool, lane: Lane) -> int:
    moved = await follow_up_rows(context, pool, clock=_now)
    if lane.in_order:  # a row that comes after another waits for the gate's verdict on it
        judge_answers(context, load_gate(context.job), clock=_now)
    return moved


def _writer(context: RunContext) -> OnText:
    """Return a function that appends the model's text to the spool, a JSON line each, while somebody watches."""
    file = context.spool(WRITTEN)

    def on_text(row_key: str, words: str) -> None:
        if file.exists():
            with file.open("ab") as out:
                out.write(orjson.dumps([row_key, words], option=orjson.OPT_APPEND_NEWLINE))

    return on_text


def _now() -> datetime:
    return clock.now()
