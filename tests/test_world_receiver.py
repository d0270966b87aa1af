"""What the world sends to the receiver: each message its true answer, nothing for strangers, no way to stop it."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any

import orjson
import pytest
from conftest import NOW, wait_until

from rowtide.intake.messages import Message, MessageRefused, cloud_event_id
from rowtide.intake.source_rows import row_id
from rowtide.ledger import inbox as ledger_inbox
from rowtide.ledger.inbox import Receipt
from rowtide.ledger.ledger import WORTH_A_COPY, Ledger
from rowtide.observing.supervision import supervise
from rowtide.stages.extract.inbox import MOST_IN_A_COMMIT, Inbox
from webhooks.prefect_notifier import ACCEPTED, DUE, Announcer

Outcome = Receipt | str


def message(message_id: str, body: str = "late", job: str = "sorting") -> Message:
    content = orjson.dumps({"id": message_id, "message": body})
    return Message(job, message_id, row_id(content), [(message_id, content)])


def rename(ledger: Ledger, before: str, after: str) -> None:
    with ledger.page() as tx:
        tx.exec_driver_sql(f"ALTER TABLE {before} RENAME TO {after}")


def kept(ledger: Ledger) -> Counter[tuple[str, str, bytes]]:
    with ledger.view() as tx:
        query = "SELECT r.job, m.message_id, r.content FROM message_row r JOIN message m USING (message_no)"
        return Counter((job, name, bytes(content)) for job, name, content in tx.exec_driver_sql(query).tuples())


# ---------------------------------------------------------------- idempotency, by job and body


@pytest.mark.parametrize("seed", range(8))
def test_an_id_is_its_jobs_own_and_stands_for_one_body(ledger: Ledger, seed: int) -> None:
    chance = random.Random(seed)
    known: dict[tuple[str, str], Message] = {}
    for count in (1, 3, WORTH_A_COPY - 1, WORTH_A_COPY, MOST_IN_A_COMMIT):
        names = [f"id-{n}" for n in range(max(2, count // 2))]
        jobs, bodies = ["sorting", "others", "sorting id-1"], ["late", "early"]
        letters = [message(chance.choice(names), chance.choice(bodies), chance.choice(jobs)) for _ in range(count)]
        expected = list[Receipt]()
        for each in letters:
            first = known.setdefault((each.job, each.message_id), each)
            same = Receipt.REPEATED if first.body_hash == each.body_hash else Receipt.DIFFERENT
            expected.append(Receipt.ACCEPTED if first is each else same)
        assert ledger_inbox.receive_messages(ledger, letters, f"{count}", now=NOW) == expected
    assert kept(ledger) == Counter((each.job, each.message_id, each.rows[0][1]) for each in known.values())


def test_a_run_is_asked_for_once_for_each_job_and_id(ledger: Ledger) -> None:
    def ask(job: str, message_id: str, body_hash: str) -> Receipt:
        with ledger.page() as tx:
            return ledger_inbox.request_run(tx, job, message_id, body_hash, now=NOW)

    asked = [("a", "1", "x"), ("a", "1", "x"), ("b", "1", "x"), ("a", "1", "y"), ("a", "2", "y"), ("b", "1", "y")]
    accepted, repeated, different = Receipt.ACCEPTED, Receipt.REPEATED, Receipt.DIFFERENT
    assert [ask(*each) for each in asked] == [accepted, repeated, accepted, different, accepted, different]


def test_no_two_cloud_events_are_taken_for_one() -> None:
    said = [("a#b", "c"), ("a", "b#c"), ("a", "b%23c"), ("a", "b%2523c"), ("a#", "b"), ("a", "#b")]
    ids = {cloud_event_id({"specversion": "1.0", "type": "t", "source": source, "id": own}) for source, own in said}
    assert len(ids) == len(said)
    assert cloud_event_id({"specversion": "1.0", "type": "t", "source": "crm", "id": "9"}) == "crm#9"


# ---------------------------------------------------------------- told once


async def test_each_message_is_told_once_for_its_job_by_several_receivers_that_meet_database_errors(
    ledger: Ledger,
) -> None:
    said: list[tuple[str, str, dict[str, Any]]] = []

    def emit(event: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
        said.append((event, resource["job"], payload))

    def told() -> Counter[str]:
        return Counter({job: sum(p["messages"] for e, j, p in said if (e, j) == (ACCEPTED, job)) for job in jobs})

    jobs = ["a", "b", "c d"]
    announcers = [Announcer(ledger, 100, 60, emit) for _ in range(3)]
    telling = [asyncio.create_task(supervise(each.background, each.work)) for each in announcers]
    for page in range(6):
        letters = [message(f"id-{page}-{n}", job=jobs[n % 3]) for n in range(300)]
        keeping = asyncio.to_thread(
            ledger_inbox.receive_messages,
            ledger,
            [*letters, *map(replace, letters)],
            f"{page}",
            now=NOW,
            is_announced=False,
        )
        assert Counter(await keeping) == {"accepted": 300, "repeated": 300}
        if page % 2:
            await asyncio.to_thread(rename, ledger, "unannounced_message", "away")
            await asyncio.to_thread(wait_until, lambda: any(each.background.is_failing for each in announcers))
            await asyncio.to_thread(rename, ledger, "away", "unannounced_message")
    await asyncio.to_thread(wait_until, lambda: told().total() == 1800)
    for each in telling:
        each.cancel()
    assert told() == dict.fromkeys(jobs, 600)
    assert sum(payload["rows"] for event, _, payload in said if event == ACCEPTED) == 1800
    ids = Counter((job, name) for event, job, payload in said if event == ACCEPTED for name in payload["message_ids"])
    assert set(ids.values()) == {1}
    assert Counter((event, job) for event, job, _ in said if event == DUE) == {(DUE, job): 1 for job in jobs}


def test_that_rows_are_due_is_said_again_after_half_a_minute_by_whoever_looks_first(ledger: Ledger) -> None:
    def ask(seconds: float, job: str = "a", why: str = "size") -> bool:
        now = NOW + timedelta(seconds=seconds)
        with ledger.page() as tx:
            return ledger_inbox.claim_due_announcement(tx, job, why, last_before=now - timedelta(seconds=30), now=now)

    assert [ask(0), ask(0), ask(29), ask(30), ask(59), ask(61)] == [True, False, False, True, False, True]
    assert [ask(0, "b"), ask(0, "a", "age"), ask(1, "b")] == [True, True, False]


# ---------------------------------------------------------------- many messages in a commit


@asynccontextmanager
async def at_work(ledger: Ledger) -> AsyncGenerator[Inbox]:
    inbox = Inbox(ledger, lambda: datetime.now(UTC))
    working = asyncio.create_task(supervise(inbox.background, inbox.work))
    await asyncio.to_thread(wait_until, lambda: inbox.is_open)
    try:
        yield inbox
    finally:
        working.cancel()


async def outcome(inbox: Inbox, letter: Message) -> Outcome:
    try:
        return await inbox.receive(letter)
    except MessageRefused as why:
        return why.kind


def slow(ledger: Ledger, is_slow: Event, over: Event) -> None:
    """Let nothing be written until it is over."""
    with ledger.page() as tx:
        if tx.dialect.name == "postgresql":
            tx.exec_driver_sql("LOCK TABLE message IN ACCESS EXCLUSIVE MODE")
        is_slow.set()
        over.wait()


async def test_messages_that_share_a_commit_because_the_database_is_slow_each_get_their_own_answer(
    ledger: Ledger,
) -> None:
    is_slow, over = Event(), Event()
    locking = Thread(target=slow, args=(ledger, is_slow, over))
    letters = [message(f"id-{n % 600}", "late" if n % 3 else "early") for n in range(1000)]
    letters += [message(f"id-{n}", job="others") for n in range(600)]
    async with at_work(ledger) as inbox:
        locking.start()
        await asyncio.to_thread(is_slow.wait)
        waits = [asyncio.create_task(outcome(inbox, each)) for each in letters]
        asyncio.get_running_loop().call_soon(over.set)  # after each has put its message down
        found = await asyncio.gather(*waits)
    locking.join()
    first: dict[tuple[str, str], str] = {}
    for each in letters:
        first.setdefault((each.job, each.message_id), each.body_hash)
    assert Counter(found)["accepted"] == len(first) == 1200
    assert kept(ledger).total() == 1200
    for each, receipt in zip(letters, found, strict=True):
        if receipt == Receipt.DIFFERENT:
            assert each.body_hash != first[each.job, each.message_id]
        else:
            assert receipt in (Receipt.ACCEPTED, Receipt.REPEATED)
            assert each.body_hash == first[each.job, each.message_id]


@pytest.mark.parametrize("place", ["its id", "its row's key"])
async def test_a_message_that_no_database_takes_costs_none_of_those_beside_it(ledger: Ledger, place: str) -> None:
    letters = [message(f"id-{n}") for n in range(400)]
    bad = replace(letters[123], message_id="\ud800") if place == "its id" else None
    letters[123] = bad or replace(letters[123], rows=[("\ud800", b"{}")])
    async with at_work(ledger) as inbox:
        found = await asyncio.gather(*(outcome(inbox, each) for each in letters))
        assert found[123] == "cannot_be_kept"
        assert Counter(found) == {"accepted": 399, "cannot_be_kept": 1}
        assert await outcome(inbox, message("id-123")) == "accepted"
        assert not inbox.background.is_failing
    assert kept(ledger).total() == 400


async def test_while_the_ledger_cannot_be_written_senders_are_told_at_once_and_afterwards_all_is_well(
    ledger: Ledger,
) -> None:
    async with at_work(ledger) as inbox:
        rename(ledger, "message", "away")
        found = await asyncio.gather(*(outcome(inbox, message(f"id-{n}")) for n in range(300)))
        assert set(found) == {"unavailable"}
        assert inbox.background.is_failing
        rename(ledger, "away", "message")
        await asyncio.to_thread(wait_until, lambda: inbox.is_open)
        found = await asyncio.gather(*(outcome(inbox, message(f"id-{n}")) for n in range(300)))
        assert set(found) == {"accepted"}
        assert not inbox.background.is_failing
    assert kept(ledger).total() == 300
