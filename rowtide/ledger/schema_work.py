"""The tables of work that waits, of who does it, and of what people were told.

Messages until a run takes them, runs that are asked for; a run's flow runs and workers; objectives that are breached,
and events that were told.
"""

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, Text, UniqueConstraint, text

from rowtide.ledger.schema import Number, table

_WAITING, _TAKEN = text("run_id IS NULL"), text("run_id IS NOT NULL")

# A message, once: what its sender calls it is remembered for ever, so that sending it again changes nothing.
message = table(
    "message",
    Column("message_no", Number, primary_key=True),
    Column("job", Text, nullable=False),  # the name of its folder
    Column("message_id", Text, nullable=False),
    Column("body_hash", Text, nullable=False),  # to tell a repetition from another message under the same id
    Column("receipt", Text, nullable=False),  # of the commit that brought it: who inserted it knows it again
    Column("rows", Integer, nullable=False),
    Column("received_at", Text, nullable=False),
    UniqueConstraint("message_id", "job", name="message_is_received_once"),
)

# A row of a message. It waits until a run takes it; `run_id` is set once and never changed.
message_row = table(
    "message_row",
    Column("inbox_no", Number, primary_key=True),  # the order of arrival
    Column("message_no", Number, ForeignKey("message.message_no"), nullable=False),
    Column("job", Text, nullable=False),
    Column("row_key", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),  # canonical JSON
    Column("run_id", Text),
    Column("superseded_by", Number),  # the later row of the same key that the same run took
    Index("message_row_by_message", "message_no"),
    Index("message_row_waiting", "job", "inbox_no", sqlite_where=_WAITING, postgresql_where=_WAITING),
    Index("message_row_taken", "run_id", "row_key", "inbox_no", sqlite_where=_TAKEN, postgresql_where=_TAKEN),
)

# A message that Prefect is still to be told of: it comes with the message, and goes before Prefect hears of it.
untold = table("untold", Column("message_no", Number, primary_key=True, autoincrement=False), clustered=True)

# A run that was asked for over HTTP, once: what its sender calls the question is remembered for ever.
run_request = table(
    "run_request",
    Column("job", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("body_hash", Text, nullable=False),  # to tell a repetition from another question under the same id
    Column("requested_at", Text, nullable=False),
    clustered=True,
)

# Which of Prefect's flow runs work, or worked, on a run.
flow_run = table(
    "flow_run",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("since", Text, primary_key=True),
    Column("flow_run_id", Text, nullable=False),
    Column("restarted", Text),  # why it was started again without a person; null when it began by itself
    clustered=True,
)

# A process at work on a run, for as long as it renews this; and what it has in hand.
worker = table(
    "worker",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("holder", Text, primary_key=True),  # machine:pid:started:token
    Column("until", Text, nullable=False),
    clustered=True,
)

claim = table(
    "claim",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("what", Text, primary_key=True),
    Column("number", Number, primary_key=True, autoincrement=False),  # a share's place, a batch's number; 0: the poll
    Column("holder", Text),  # the worker that has it in hand; null: whoever comes first
    clustered=True,
)

# An objective of a job that was found breached: from when it was first seen until it was first seen met again.
breach = table(
    "breach",
    Column("job", Text, primary_key=True),
    Column("objective", Text, primary_key=True),
    Column("since", Text, primary_key=True),
    Column("ended_at", Text),  # null while it lasts
    clustered=True,
)

# What Prefect was told of, so that it is told once: a run and what held it, a job and a breach.
told = table(
    "told",
    Column("subject", Text, primary_key=True),
    Column("occurrence", Text, primary_key=True),
    Column("told_at", Text, nullable=False),
    clustered=True,
)
