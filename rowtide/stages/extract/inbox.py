"""Receives messages into the inbox, many in one commit, and reads a run's rows from it."""

import asyncio
import secrets
from asyncio import Future, Queue
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import orjson

from rowtide.intake.messages import Message, MessageRefused
from rowtide.intake.source_rows import BadRow, SourceRow
from rowtide.ledger import inbox as ledger_inbox
from rowtide.ledger.inbox import Receipt
from rowtide.ledger.ledger import Ledger, Run
from rowtide.observing.bounded_threads import BoundedThreads
from rowtide.observing.supervision import Background

MOST_IN_A_COMMIT = 500
MOST_WAITING, MOST_WAITING_BYTES = 5000, 64_000_000  # waiting to be written; later ones try again
ANSWER_SECONDS = 20.0  # how long a sender waits to hear that its message is on disk

Letter = tuple[Message, "Future[Receipt]"]


class Inbox:
    """Receives messages; those that arrive together are committed together, and each sender is answered after that."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime], *, is_announced: bool = True) -> None:
        self._ledger, self._clock, self._is_announced = ledger, clock, is_announced
        self._letters: Queue[Letter] = Queue()
        self._bytes, self._threads = 0, BoundedThreads(1)
        self.is_open = False
        self.background = Background("the inbox", "messages are refused, and their senders told to come again")

    async def receive(self, message: Message) -> Receipt:
        """Return when the message is on disk. Raises MessageRefused."""
        if not self.is_open:
            raise MessageRefused("unavailable", "the ledger cannot be written now", retry_after_seconds=5)
        if self._letters.qsize() >= MOST_WAITING or self._bytes >= MOST_WAITING_BYTES:
            raise MessageRefused("busy", f"{self._letters.qsize():,} messages wait", retry_after_seconds=1)
        future: Future[Receipt] = asyncio.get_running_loop().create_future()
        self._letters.put_nowait((message, future))
        self._bytes += _size(message)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await future
        except TimeoutError:
            words = f"the ledger has not answered for {ANSWER_SECONDS:g} s"
            raise MessageRefused("busy", words, retry_after_seconds=5) from None

    async def work(self) -> None:
        """Write messages until cancelled. One task is enough: a second would only wait for the database."""
        await self._threads.call(None, ledger_inbox.check_writable, self._ledger)
        self.background.succeeded()
        self.is_open = True
        try:
            while True:
                letters = [await self._next()]
                while len(letters) < MOST_IN_A_COMMIT and not self._letters.empty():
                    letters.append(await self._next())
                await self._commit(
                    [each for each in letters if not each[1].done()]
                )  # the others timed out and were told to try again
                self.background.succeeded()
        finally:
            self.is_open = False

    async def _next(self) -> Letter:
        letter = await self._letters.get()
        self._bytes -= _size(letter[0])
        return letter

    async def _commit(self, letters: list[Letter]) -> None:
        messages, now = [message for message, _ in letters], self._clock()
        try:
            found = await self._threads.call(None, _kept, self._ledger, messages, now, is_announced=self._is_announced)
            for (_, future), receipt in zip(letters, found, strict=True):
                if future.done():  # its sender has gone; the message is stored all the same
                    continue
                if isinstance(receipt, MessageRefused):
                    future.set_exception(receipt)
                else:
                    future.set_result(receipt)
        finally:
            for _, future in letters:
                if not future.done():
                    future.set_exception(
                        MessageRefused("unavailable", "the ledger cannot be written", retry_after_seconds=5)
                    )


def _size(message: Message) -> int:
    return sum(len(content) for _, content in message.rows)


def _kept(
    ledger: Ledger, messages: Sequence[Message], now: datetime, *, is_announced: bool
) -> list[Receipt | MessageRefused]:
    """Return each message's receipt. A message that the ledger refuses is refused alone: the halves are tried again."""
    if not messages:
        return []
    try:
        return [
            *ledger_inbox.receive_messages(ledger, messages, secrets.token_hex(8), now=now, is_announced=is_announced)
        ]
    except MessageRefused as why:
        if len(messages) == 1:
            return [why]
        half = len(messages) // 2
        halves = (messages[:half], messages[half:])
        return [receipt for each in halves for receipt in _kept(ledger, each, now, is_announced=is_announced)]


def claimed_inbox_pages(ledger: Ledger, run: Run, page_rows: int) -> Iterator[list[SourceRow | BadRow]]:
    """Yield pages of the rows that the run claimed, in order of arrival; a row's line is its inbox_no."""
    after = 0
    while True:
        with ledger.view() as tx:
            found = ledger_inbox.claimed_rows_page(tx, run.run_id, after=after, limit=page_rows)
        if not found:
            return
        after = found[-1][0]
        yield [SourceRow(inbox_no, orjson.loads(content)) for inbox_no, content in found]
