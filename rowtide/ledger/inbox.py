"""The inbox: messages received once, whose rows wait until exactly one run takes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from rowtide.errors import WorldError
from rowtide.intake.messages import Message, MessageRefused
from rowtide.ledger.engine import LedgerBroken, LedgerUnavailable
from rowtide.ledger.ledger import (
    ROWS_PER_RUN,
    Ledger,
    from_timestamp,
    insert_rows,
    is_one_of,
    list_parameter,
    take_advisory_lock,
    to_timestamp,
)


class Receipt(StrEnum):
    """What became of a message at the door."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"  # it was here before, just so
    DIFFERENT = "different"  # another message was here before under this id


@dataclass(frozen=True, slots=True)
class WaitingRows:
    """The rows of one job that no run has taken."""

    job: str
    rows: int
    oldest_at: datetime

    def is_due(self, at_least: int, older_than_seconds: float | None, now: datetime) -> bool:
        """Whether there are so many, the oldest of them so old."""
        return self.rows >= at_least and (now - self.oldest_at).total_seconds() >= (older_than_seconds or 0)


@dataclass(frozen=True, slots=True)
class MessageRowTrace:
    """Where one row of a message is: the run that took it, its row state there, or what took its place."""

    inbox_no: int
    row_key: str
    run_id: str | None
    superseded_by: int | None
    state: str | None
    reason: str | None


def check_writable(ledger: Ledger) -> None:
    """Raise what the database has against a message, without one."""
    with ledger.page() as tx:
        tx.execute(text("DELETE FROM message WHERE message_no IS NULL"))


def receive_messages(
    ledger: Ledger, messages: Sequence[Message], token: str, *, now: datetime, is_announced: bool = True
) -> list[Receipt]:
    """Take in messages, all in one transaction: when this returns, they are on disk.

    `token` is this commit's own: it tells a message that we brought from one that was here. Unless `is_announced`,
    Prefect is to be told of those (`take_unannounced`). Raises WorldError; MessageRefused for a value that the database
    does not take, and then nothing of any of them is kept.
    """
    try:
        with ledger.page() as tx:
            return _receive(tx, messages, token, now, is_announced=is_announced)
    except (DataError, IntegrityError, ValueError, OverflowError) as error:
        raise MessageRefused("cannot_be_kept", f"the ledger refuses a value: {type(error).__name__}") from error
    except (SQLAlchemyError, LedgerUnavailable, LedgerBroken) as error:
        raise WorldError(f"the ledger cannot be written: {type(error).__name__}", retry_after_seconds=5) from error


def _receive(
    tx: Connection, messages: Sequence[Message], token: str, now: datetime, *, is_announced: bool
) -> list[Receipt]:
    first: dict[tuple[str, str], Message] = {}
    for message in messages:
        first.setdefault((message.message_id, message.job), message)
    columns = ["message_id", "job", "body_hash", "receipt", "rows", "received_at"]
    at = to_timestamp(now)
    # In order: two receivers that insert the same messages the other way round would wait for each other for ever.
    brought = [(*key, each.body_hash, token, len(each.rows), at) for key, each in sorted(first.items())]
    insert_rows(tx, "message", columns, brought, "ON CONFLICT (message_id, job) DO NOTHING")
    known = f"FROM message WHERE message_id {is_one_of(tx, 'ids', kind='text')}"
    query = text(f"SELECT message_id, job, message_no, body_hash, receipt {known}")
    found = tx.execute(query, {"ids": list_parameter([message_id for message_id, _ in first])}).all()
    here = {(message_id, job): (no, body_hash, receipt) for message_id, job, no, body_hash, receipt in found}
    ours = [(here[key][0], each) for key, each in first.items() if here[key][2] == token]
    rows = [(no, each.job, row_key, content) for no, each in ours for row_key, content in each.rows]
    insert_rows(tx, "message_row", ["message_no", "job", "row_key", "content"], rows)
    if not is_announced:
        insert_rows(tx, "unannounced_message", ["message_no"], [(no,) for no, _ in ours])
    new = {id(each) for _, each in ours}
    return [_receipt(each, here[each.message_id, each.job][1], is_new=id(each) in new) for each in messages]


def _receipt(message: Message, body_hash: str, *, is_new: bool) -> Receipt:
    if is_new:
        return Receipt.ACCEPTED
    return Receipt.REPEATED if message.body_hash == body_hash else Receipt.DIFFERENT


def take_unannounced(tx: Connection, *, limit: int) -> list[tuple[str, str, int]]:
    """Messages that Prefect is to be told of, the oldest first: (job, message_id, rows). Nobody else is given them."""
    take_advisory_lock(tx, "unannounced_message")
    query = (
        "SELECT u.message_no, m.job, m.message_id, m.rows "
        "FROM unannounced_message u JOIN message m ON m.message_no = u.message_no "
        "ORDER BY u.message_no LIMIT :limit"
    )
    found = tx.execute(text(query), {"limit": limit}).all()
    gone = text(f"DELETE FROM unannounced_message WHERE message_no {is_one_of(tx, 'numbers')}")
    if found:
        tx.execute(gone, {"numbers": list_parameter([number for number, *_ in found])})
    return [(job, message_id, rows) for _, job, message_id, rows in found]


def may_announce_due_rows(tx: Connection, job: str, why: str, *, last_before: datetime, now: datetime) -> bool:
    """Whether nobody has said since then that a job's rows are due, for this reason. Whoever asks says it now."""
    announced = tx.execute(
        text(
            "INSERT INTO emitted_event (subject, occurrence, emitted_at) VALUES (:subject, :why, :now) ON CONFLICT "
            "(subject, occurrence) DO UPDATE SET emitted_at = excluded.emitted_at "
            "WHERE emitted_event.emitted_at <= :before"
        ),
        {"subject": f"inbox {job}", "why": why, "now": to_timestamp(now), "before": to_timestamp(last_before)},
    )
    return announced.rowcount > 0


def request_run(tx: Connection, job: str, message_id: str, body_hash: str, *, now: datetime) -> Receipt:
    """Record that a run of the job is wanted. Whoever asks again under the same id asks for the same run."""
    these = {"job": job, "id": message_id, "hash": body_hash, "now": to_timestamp(now)}
    into = "INSERT INTO run_request (job, message_id, body_hash, requested_at) VALUES (:job, :id, :hash, :now)"
    if tx.execute(text(f"{into} ON CONFLICT (job, message_id) DO NOTHING"), these).rowcount:
        return Receipt.ACCEPTED
    query = text("SELECT body_hash FROM run_request WHERE job = :job AND message_id = :id")
    return Receipt.REPEATED if tx.execute(query, these).scalar() == body_hash else Receipt.DIFFERENT


def waiting_rows(tx: Connection) -> list[WaitingRows]:
    """What waits, for each job that has something waiting; the one that has waited longest first."""
    query = text(
        "SELECT w.job, w.waits, m.received_at FROM (SELECT job, count(*) AS waits, min(inbox_no) AS first "
        "FROM message_row WHERE run_id IS NULL GROUP BY job) w JOIN message_row r ON r.inbox_no = w.first "
        "JOIN message m ON m.message_no = r.message_no ORDER BY m.received_at"
    )
    return [WaitingRows(job, rows, from_timestamp(at)) for job, rows, at in tx.execute(query)]


def lock_inbox_of_job(tx: Connection, job: str) -> None:
    """Let no other run take rows of this job before this transaction ends.

    Two that take at once would lock rows in different orders, and wait for each other for ever; or the run that began
    last would take the rows that came first, and its load would put an older row in a newer one's place.
    """
    take_advisory_lock(tx, f"inbox {job}")


def claim_inbox_rows(tx: Connection, job: str, run_id: str, *, limit: int | None) -> int:
    """Give the run what waits, the oldest first. Returns how many rows.

    Of rows with the same key the last to come is the run's; the others are superseded, and say by which.
    """
    lock_inbox_of_job(tx, job)
    waits = "SELECT inbox_no FROM message_row WHERE job = :job AND run_id IS NULL ORDER BY inbox_no LIMIT :limit"
    claimed = tx.execute(
        text(f"UPDATE message_row SET run_id = :run WHERE run_id IS NULL AND inbox_no IN ({waits})"),
        {"run": run_id, "job": job, "limit": limit or ROWS_PER_RUN - 1},
    )
    last = "SELECT row_key, max(inbox_no) AS last FROM message_row WHERE run_id = :run GROUP BY row_key"
    tx.execute(
        text(
            f"UPDATE message_row AS m SET superseded_by = l.last FROM ({last}) l "
            "WHERE m.run_id = :run AND m.row_key = l.row_key AND m.inbox_no < l.last"
        ),
        {"run": run_id},
    )
    return claimed.rowcount


def claimed_rows_page(tx: Connection, run_id: str, *, after: int, limit: int) -> list[tuple[int, bytes]]:
    """The next rows the run has taken: (inbox_no, content). What a run has taken never changes."""
    query = text(
        "SELECT inbox_no, content FROM message_row WHERE run_id = :run AND superseded_by IS NULL "
        "AND inbox_no > :after ORDER BY inbox_no LIMIT :limit"
    )
    return [(no, content) for no, content in tx.execute(query, {"run": run_id, "after": after, "limit": limit})]


def trace_message(tx: Connection, job: str, message_id: str) -> list[MessageRowTrace] | None:
    """Where each row of a message is, or None when there is no such message."""
    query = text(
        "SELECT r.inbox_no, r.row_key, r.run_id, r.superseded_by, w.state, w.reason FROM message m "
        "LEFT JOIN message_row r ON r.message_no = m.message_no LEFT JOIN run u ON u.run_id = r.run_id "
        "LEFT JOIN row w ON w.run_no = u.run_no AND w.row_key = r.row_key AND r.superseded_by IS NULL "
        "WHERE m.message_id = :id AND m.job = :job ORDER BY r.inbox_no"
    )
    found = tx.execute(query, {"id": message_id, "job": job}).all()
    return [MessageRowTrace(*each) for each in found] if found else None
