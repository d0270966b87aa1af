"""The loop of the pump: rows that are in become answers, or are quarantined."""

from tasks.ask_approval import ask_approval
from tasks.converse import converse
from tasks.follow_up import follow_up
from tasks.park import park
from tasks.route import route
from tasks.submit import submit
from tasks.validate import validate
from tasks.wait import wait


async def answer_rows(run: str) -> None:
    """Take a run's rows, once they are in, as far as they come without a sink: accepted, or quarantined."""
    await route(run)  # a first tier for each, and a lane for all
    while await submit(run) or await ask_approval(run):  # ready rows → batches; or ask a person, for those that wait
        await converse(run)  # rows of a live lane, call by call
        await park(run, moved=await wait(run))  # until some batch has ended, and is filed; or parked
        await follow_up(run)  # tools, checks, corrections: ready again, or answered, or held
        await validate(run)  # the answers gate: accepted, or quarantined
