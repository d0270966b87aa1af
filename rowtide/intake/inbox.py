"""The way into the inbox: what a job asks of its rows, many messages in one commit, and a run's rows out again."""

import asyncio
import secrets
from asyncio import Future, Queue
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

import orjson

from rowtide.errors import WorldError, nearest
from rowtide.intake.messages import Door, Message, Refused
from rowtide.intake.rows import BadRow, SourceRow
from rowtide.intake.sources import columns
from rowtide.job.job_file import JOB_FILE, read_spec
from rowtide.ledger import ledger_inbox
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.ledger_inbox import Receipt
from rowtide.observing.supervision import Background

MOST_IN_A_COMMIT = 500
MOST_WAITING = 5000  # messages that wait to be written; more are told to come again

Letter = tuple[Message, "Future[Receipt]"]


def find_door(job: str, jobs: Path, environment: Mapping[str, str]) -> Door:
    """What a job under `jobs` asks of a row. Raises Refused where there is no such job, UserMistake in a wrong one."""
    known = {file.parent.name: file.parent for file in jobs.glob(f"*/{JOB_FILE}")}
    if job not in known:
        hint = f"; did you mean {meant!r}?" if (meant := nearest(job, known)) else ""
        raise Refused("unknown_job", f"no job {job!r}{hint}")
    spec = read_spec(known[job])
    return Door(job, spec.key_columns, columns(spec.source, known[job], environment), spec.limits.row_bytes)


class Inbox:
    """Receives messages. Those that come together are committed together, and each is answered after that."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._ledger, self._clock = ledger, clock
        self._letters: Queue[Letter] = Queue()
        self.is_open = False
        self.background = Background("the inbox", "messages are refused, and their senders told to come again")

    async def receive(self, message: Message) -> Receipt:
        """Returns once the message is on disk. Raises Refused."""
        if not self.is_open:
            raise Refused("unavailable", "the receiver is closing")
        if self._letters.qsize() >= MOST_WAITING:
            raise Refused("busy", f"{MOST_WAITING:,} messages wait", retry_after_seconds=1)
        future: Future[Receipt] = asyncio.get_running_loop().create_future()
        self._letters.put_nowait((message, future))
        return await future

    async def work(self) -> None:
        """Write what comes, until cancelled. There is one of it: a second would only wait for the database."""
        self.is_open = True
        try:
            while True:
                letters = [await self._letters.get()]
                while len(letters) < MOST_IN_A_COMMIT and not self._letters.empty():
                    letters.append(self._letters.get_nowait())
                try:
                    await self._commit(letters)
                finally:
                    for _, future in letters:
                        if not future.done():
                            future.set_exception(Refused("unavailable", "the inbox failed", retry_after_seconds=5))
                self.background.succeeded()
        finally:
            self.is_open = False

    async def _commit(self, letters: list[Letter]) -> None:
        messages, token, now = [message for message, _ in letters], secrets.token_hex(8), self._clock()
        refused: Refused | None = None
        receipts: list[Receipt] = []
        try:
            receipts = await asyncio.to_thread(ledger_inbox.receive, self._ledger, messages, token, now=now)
        except WorldError as error:
            refused = Refused("unavailable", str(error), retry_after_seconds=error.retry_after_seconds)
        for n, (_, future) in enumerate(letters):
            if future.done():  # its sender has gone; the message is here all the same
                continue
            if refused:
                future.set_exception(refused)
            else:
                future.set_result(receipts[n])


def claimed_pages(ledger: Ledger, run: Run, page_rows: int) -> Iterator[list[SourceRow | BadRow]]:
    """The rows that the run has taken from the inbox, in order of arrival; a row's line is its number in the inbox."""
    after = 0
    while True:
        with ledger.view() as tx:
            found = ledger_inbox.claimed_page(tx, run.run_id, after=after, limit=page_rows)
        if not found:
            return
        after = found[-1][0]
        yield [SourceRow(inbox_no, orjson.loads(content)) for inbox_no, content in found]
