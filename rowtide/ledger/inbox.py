"""The inbox: each message is received once, and its rows wait until exactly one run claims them."""

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
    """How the inbox received a message."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"  # the same message came before
    DIFFERENT = "different"  # another message came before under this id


@dataclass(frozen=True, slots=True)
class WaitingRows:
    """How many rows of a job no run has claimed, and when the oldest came."""

    job: str
    rows: int
    oldest_at: datetime

    def is_due(self, at_least: int, older_than_seconds: float | None, now: datetime) -> bool:
        """Return whether at least so many rows wait and the oldest is old enough."""
        return self.rows >= at_least and (now - self.oldest_at).total_seconds() >= (older_than_seconds or 0)


@dataclass(frozen=True, slots=True)
class MessageRowTrace:
    """Where one row of a message is: its run, its row state there, or the row that superseded it."""

    inbox_no: int
    row_key: str
    run_id: str | None
    superseded_by: int | None
    state: str | None
    reason: str | None


def check_writable(ledger: Ledger) -> None:
    """Raise the database's error if it accepts no messages, without storing one."""
    with ledger.page() as tx:
        tx.execute(text("DELETE FROM message WHERE message_no IS NULL"))


def receive_messages(
    ledger: Ledger, messages: Sequence[Message], token: str, *, now: datetime, is_announced: bool = True
) -> list[Receipt]:
    """Store messages in one transaction: when this returns, they are on disk.

    `token` is unique to this commit and tells messages that it stored from those already there. Unless `is_announced`,
    the stored ones are kept for `take_unannounced`. Raises WorldError; MessageRefused for a value that the database
    refuses, and then none of the messages is stored.
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
    # Sorted: two receivers that insert the same messages in different orders would deadlock.
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
    """Take messages not yet announced to Prefect, oldest first: (job, message_id, rows). No other caller gets them."""
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


def claim_due_announcement(tx: Connection, job: str, why: str, *, last_before: datetime, now: datetime) -> bool:
    """Claim the announcement that a job's rows are due. Returns False if it was made after `last_before`."""
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
    """Record a request for a run of the job. Asking again under the same id means the same run."""
    these = {"job": job, "id": message_id, "hash": body_hash, "now": to_timestamp(now)}
    into = "INSERT INTO run_request (job, message_id, body_hash, requested_at) VALUES (:job, :id, :hash, :now)"
    if tx.execute(text(f"{into} ON CONFLICT (job, message_id) DO NOTHING"), these).rowcount:
        return Receipt.ACCEPTED
    query = text("SELECT body_hash FROM run_request WHERE job = :job AND message_id = :id")
    return Receipt.REPEATED if tx.execute(query, these).scalar() == body_hash else Receipt.DIFFERENT


def waiting_rows(tx: Connection) -> list[WaitingRows]:
    """Return each job's waiting rows, the job that has waited longest first."""
    query = text(
        "SELECT w.job, w.waits, m.received_at FROM (SELECT job, count(*) AS waits, min(inbox_no) AS first "
        "FROM message_row WHERE run_id IS NULL GROUP BY job) w JOIN message_row r ON r.inbox_no = w.first "
        "JOIN message m ON m.message_no = r.message_no ORDER BY m.received_at"
    )
    return [WaitingRows(job, rows, from_timestamp(at)) for job, rows, at in tx.execute(query)]


def lock_inbox_of_job(tx: Connection, job: str) -> None:
    """Keep other runs from claiming rows of this job until this transaction ends.

    Two runs claiming at once could deadlock; or the later run could claim the earlier rows, and its load would replace
    a newer row with an older one.
    """
    take_advisory_lock(tx, f"inbox {job}")


def claim_inbox_rows(tx: Connection, job: str, run_id: str, *, limit: int | None) -> int:
    """Claim the job's oldest waiting rows for the run. Returns how many.

    Of rows with the same key, the last to come is used; the others are marked superseded by it.
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
    """Return the run's next claimed rows as (inbox_no, content). The set a run has claimed never changes."""
    query = text(
        "SELECT inbox_no, content FROM message_row WHERE run_id = :run AND superseded_by IS NULL "
        "AND inbox_no > :after ORDER BY inbox_no LIMIT :limit"
    )
    return [(no, content) for no, content in tx.execute(query, {"run": run_id, "after": after, "limit": limit})]


def trace_message(tx: Connection, job: str, message_id: str) -> list[MessageRowTrace] | None:
    """Return where each row of a message is, or None when there is no such message."""
    query = text(
        "SELECT r.inbox_no, r.row_key, r.run_id, r.superseded_by, w.state, w.reason FROM message m "
        "LEFT JOIN message_row r ON r.message_no = m.message_no LEFT JOIN run u ON u.run_id = r.run_id "
        "LEFT JOIN row w ON w.run_no = u.run_no AND w.row_key = r.row_key AND r.superseded_by IS NULL "
        "WHERE m.message_id = :id AND m.job = :job ORDER BY r.inbox_no"
    )
    found = tx.execute(query, {"id": message_id, "job": job}).all()
    return [MessageRowTrace(*each) for each in found] if found else None
