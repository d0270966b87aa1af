"""Rows of the live lanes, call by call."""

import secrets
from datetime import datetime
from functools import partial

import orjson

from blocks.claude_credentials import ClaudeCredentials
from blocks.ledger_database import LedgerDatabase
from rowtide import clock
from rowtide.agent.following import follow
from rowtide.amend.taking_up import take_up
from rowtide.api.walls import wall_in_the_way
from rowtide.gates.validating import judge_answers
from rowtide.job.job import Lane
from rowtide.lanes.choosing import lane_now
from rowtide.lanes.swarm import Hear, Swarm
from rowtide.ledger import ledger as ledgers
from rowtide.tools.tools import ToolPool
from rowtide.work import WRITTEN, Work, load_gate, tool_pool
from tasks.durable import durable


@durable
async def converse(run_id: str) -> int:
    """Take the rows of a live lane through their conversations, as far as the budget goes. Returns how many replied.

    Rows of the batch lane are left to the other stages.
    """
    credentials = await ClaudeCredentials.in_force()
    database = await LedgerDatabase.in_force()
    async with database.get_work_if_free(run_id) as work, credentials.get_client(work.run) as claude:
        if not work.worker.is_alone:
            return 0  # another worker sends
        if (lane := lane_now(work, now=_now())) == "batch" or work.run.stopped:
            return 0
        take_up(work, clock=_now)
        hear = _writer(work) if lane == "stream" else None
        swarm = Swarm(work, claude, lane, tag=secrets.token_hex(6), clock=_now, hear=hear)
        async with tool_pool(work.job, work.environment, work.servers) as pool:
            replied = await swarm.run(partial(_follow, work, pool, lane))
        if swarm.walled:
            with work.ledger.page() as tx:
                why = wall_in_the_way(work, swarm.walled.next_micro)
                ledgers.stop(tx, work.run, why, next_micro=swarm.walled.next_micro)
        return replied


async def _follow(work: Work, pool: ToolPool, lane: Lane) -> int:
    moved = await follow(work, pool, clock=_now)
    if lane == "sequential":  # whoever comes after a row waits for the gate's word on it
        judge_answers(work, load_gate(work.job), clock=_now)
    return moved


def _writer(work: Work) -> Hear:
    """Puts words down as they are written, one JSON line for each piece, while somebody watches."""
    file = work.spool(WRITTEN)

    def hear(row_key: str, words: str) -> None:
        if file.exists():
            with file.open("ab") as out:
                out.write(orjson.dumps([row_key, words], option=orjson.OPT_APPEND_NEWLINE))

    return hear


def _now() -> datetime:
    return clock.now()
