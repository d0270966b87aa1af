"""A person's leave: for the calls that wait for it, and to go on past a gate that holds the run."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import BaseModel

from blocks.leave import Leave, Verdict
from blocks.ledger_database import LedgerDatabase
from rowtide.errors import Outdated
from rowtide.escaping import Markdown
from rowtide.gates.call_pages import CallPage, pages_of
from rowtide.gates.holds import Hold
from rowtide.ledger import ledger_calls, ledger_holds
from rowtide.ledger.ledger_calls import Pending
from rowtide.orchestrator import orchestrator
from rowtide.report.approval_forms import about_calls, about_holds
from rowtide.work import Work
from tasks.load import load
from tasks.name_run import name_run
from tasks.tell_of_stop import tell_of_stop

NAMELESS = "the Prefect UI"

Form = TypeVar("Form", bound=BaseModel)


async def leave(run_id: str) -> bool:
    """Ask for leave by a form on the flow run's page: the run loads what it may and suspends until it is given.

    Each form decides about what it shows, as it shows it. Returns whether rows go on. Without a deployment there is no
    such form: `rowtide approve` is asked instead. Not durable: only a flow can suspend itself.
    """
    if not orchestrator().can_suspend:
        return False
    await load(run_id)
    database = await LedgerDatabase.in_force()
    async with database.get_work(run_id) as work:
        tell_of_stop(work)
    return await _ask_about_holds(database, run_id) or await _ask_about_calls(database, run_id)


async def _ask_about_holds(database: LedgerDatabase, run_id: str) -> bool:
    async with database.get_work(run_id) as work:
        with work.ledger.page() as tx:
            holds = ledger_holds.asked(tx, work.run)
            words = about_holds(run_id, holds, ledger_holds.what_follows(tx, work.run, holds))
            ledger_holds.show(tx, holds)
        if holds:
            await name_run(work.run, "waits for a person, at a gate")
    if holds:
        given = await _ask(Verdict, words, [f"{hold.hold_no}{hold.hash}" for hold in holds])
        async with database.get_work(run_id) as work:
            _decide_holds(work, holds, given)
    return bool(holds)


async def _ask_about_calls(database: LedgerDatabase, run_id: str) -> bool:
    """Ask about each page and decide when all are answered: rows that went on before would keep later pages waiting.

    Where a page's calls have changed since it was shown, nothing of it is decided, and the next look asks again.
    """
    async with database.get_work(run_id) as work:
        with work.ledger.view() as tx:
            pages = pages_of(ledger_calls.pending(tx, work.run))
        if pages:
            await name_run(work.run, "waits for a person to allow calls")
    given = [await _ask_about_page(database, run_id, page) for page in pages]
    async with database.get_work(run_id) as work:
        for page, said in zip(pages, given, strict=True):
            _decide_calls(work, page.calls, said)
    return bool(pages)


async def _ask_about_page(database: LedgerDatabase, run_id: str, page: CallPage[Pending]) -> Leave:
    with database.get_ledger() as ledger, ledger.page() as tx:
        ledger_calls.show(tx, page.calls)
    # The same key for the same calls: a flow run that starts again finds its form answered. Asked again, it is another.
    about = [f"{each.approval.place}{each.hash}{each.why}{each.approval.decided_at}" for each in page.calls]
    return await _ask(Leave, about_calls(run_id, page), about)


async def _ask(kind: type[Form], words: Markdown, about: Sequence[object]) -> Form:
    key = hashlib.blake2b(";".join(map(str, about)).encode(), digest_size=16).hexdigest()
    return await orchestrator().ask(kind, words, key=f"{kind.__name__.lower()}-{key}")


def _decide_holds(work: Work, holds: Sequence[Hold], given: Verdict) -> None:
    decide = ledger_holds.approve if given.decision == "approve" else ledger_holds.reject
    with suppress(Outdated), work.ledger.page() as tx:
        decide(tx, work.run, holds, who=given.who or NAMELESS, why=given.why or None, now=datetime.now(UTC))


def _decide_calls(work: Work, calls: Sequence[Pending], given: Leave) -> None:
    decision, who = "allowed" if given.decision == "allow" else "denied", given.who or NAMELESS
    with suppress(Outdated), work.ledger.page() as tx:
        ledger_calls.decide(tx, work.run, calls, decision, who=who, why=given.why or None, now=datetime.now(UTC))
