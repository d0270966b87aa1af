"""The tables of the ledger, in the order a row meets them.

A *run* goes once through a job's rows. `extract` admits each *row*: its number is its place in the source, so
admitting the same page twice changes nothing; its content is kept apart in *row_content*, so that moving a row
rewrites a hundred bytes and not its text. `submit` puts ready rows into a *batch*: the batch and its rows are
committed before the POST, with a random tag that stands in every custom_id, so a reply that never came can be
found again. What the model said is appended to *turn*, what tools said to *tool_call*, and every move that needs
a reason (bounce, correct, lengthen, escalate, hold, quarantine) to *note*. These three are the agent's whole state: its
conversation is read back from them. An *answer* that passed the row's checks waits for the gate. `load` writes
accepted rows to the sink in parts, one *load* each, and remembers in *loaded* what is there under which key.
`report` remembers in *set_aside* which rows could not be verified: to ask them the same again would cost the same.

Nothing here is rewritten but a row's state, a batch's progress and the run's own dates. Money is integer
micro-dollars. Times are UTC, ISO 8601 with six decimals, so they sort as text on every engine.
"""

from collections.abc import Callable

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    inspect,
    text,
)
from sqlalchemy.schema import SchemaItem

from rowtide.states import RowState

tables = MetaData()

# SQLite only gives a table its own integer key when the column's type is exactly INTEGER.
Number = BigInteger().with_variant(Integer(), "sqlite")


def _table(name: str, *parts: SchemaItem, clustered: bool = False) -> Table:
    return Table(name, tables, *parts, sqlite_strict=True, sqlite_with_rowid=not clustered)


run = _table(
    "run",
    Column("run_no", Number, primary_key=True),
    Column("run_id", Text, nullable=False, unique=True),
    Column("job", Text, nullable=False),
    Column("job_folder", Text, nullable=False),
    Column("job_version", Text, nullable=False),  # hash of all that decides an answer
    Column("job_files", Text, nullable=False),  # JSON: file → hash, to name what changed since
    Column("tiers", Text, nullable=False),  # JSON: the ladder as it was
    Column("request", LargeBinary, nullable=False),  # the part all requests share: system, tools, schema
    Column("source", Text, nullable=False),
    Column("source_path", Text),  # given by hand instead of the job's own
    Column("row_limit", Number),
    Column("lane", Text, nullable=False),
    Column("budget_micro", Number),  # the wall; null when there is none
    Column("stopped", Text),  # why the pump ended with rows still to send; null while it goes on
    Column("next_micro", Number),  # what the next request could cost, when the budget stopped the run
    Column("lease_holder", Text),  # the process at work on it: host:pid:started:token
    Column("lease_until", Text),
    Column("read_rows", Number, nullable=False, server_default="0"),  # how far extract has come
    Column("started_at", Text, nullable=False),
    Column("extracted_at", Text),
    Column("finished_at", Text),
)

row = _table(
    "row",
    Column("row_no", Number, primary_key=True, autoincrement=False),
    Column("run_no", Number, ForeignKey("run.run_no"), nullable=False),
    Column("row_key", Text, nullable=False),
    Column("row_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),  # why it is quarantined, or why it was left unchanged
    Column("tier", Integer),  # rung of the run's ladder; null until routed
    Column("turn", Integer, nullable=False, server_default="0"),  # replies so far
    Column("conversation_from", Integer, nullable=False, server_default="0"),  # turns before the present conversation
    Column("tool_calls", Integer, nullable=False, server_default="0"),  # in this conversation
    Column("corrections", Integer, nullable=False, server_default="0"),  # in this conversation
    Column("longer", Integer, nullable=False, server_default="0"),  # how often its replies may double, in this one
    Column("bounces", Integer, nullable=False, server_default="0"),
    Column("batch_no", Number),  # the batch it is in, or was in last
    Column("load_no", Number),
    Column("cost_micro", Number, nullable=False, server_default="0"),
    CheckConstraint(f"state in ({', '.join(repr(s.value) for s in RowState)})", name="row_state_is_known"),
    Index("row_by_state", "run_no", "state", "row_no"),  # every stage finds its work here
    Index("row_by_key", "run_no", "row_key", unique=True),  # one row a key in a run; `show` finds it here
)

row_content = _table(
    "row_content",
    Column("row_no", Number, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),  # canonical JSON
)

batch = _table(
    "batch",
    Column("batch_no", Number, primary_key=True),
    Column("run_no", Number, ForeignKey("run.run_no"), nullable=False),
    Column("tag", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("api_id", Text, unique=True),
    Column("adopted", Integer, nullable=False, server_default="0"),  # found by listing, proven by its tag
    Column("candidates", Text, nullable=False, server_default="[]"),  # JSON: api_ids that may be it
    Column("not_ours", Text, nullable=False, server_default="[]"),  # JSON: api_ids that turned out to be others'
    Column("reserved_micro", Number, nullable=False, server_default="0"),  # the most it can yet cost
    Column("fetches", Integer, nullable=False, server_default="0"),  # times its results were read to their end
    Column("rows", Number, nullable=False, server_default="0"),
    Column("bytes", Number, nullable=False, server_default="0"),
    Column("packed_at", Text, nullable=False),
    Column("newest_before", Text),  # the API's date of the newest batch it listed just before the POST
    Column("posted_at", Text),  # the moment before the POST: the intent
    Column("doubtful_at", Text),  # since when it is known that nobody will hear the POST's reply
    Column("opened_at", Text),
    Column("cancel_asked_at", Text),  # by us: its unanswered rows did not bounce
    Column("ended_at", Text),
    Column("filed_at", Text),
    Column("detail", Text),
    # packing → packed → posting → open → filed; void when the API certainly never took it; lost when nobody can say.
    CheckConstraint(
        "state in ('packing', 'packed', 'posting', 'open', 'filed', 'void', 'lost')", name="batch_state_is_known"
    ),
    Index("batch_by_state", "run_no", "state"),
)

turn = _table(
    "turn",
    Column("row_no", Number, primary_key=True, autoincrement=False),
    Column("turn", Integer, primary_key=True, autoincrement=False),
    Column("batch_no", Number, nullable=False),
    Column("tier", Integer, nullable=False),
    Column("stop_reason", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),  # the assistant's content blocks, verbatim
    Column("input_tokens", Number, nullable=False),
    Column("cache_write_tokens", Number, nullable=False),
    Column("cache_read_tokens", Number, nullable=False),
    Column("output_tokens", Number, nullable=False),
    Column("cost_micro", Number, nullable=False),
    Column("baseline_micro", Number, nullable=False),  # the same tokens, live, on the ladder's top rung
    clustered=True,
)

tool_call = _table(
    "tool_call",
    Column("row_no", Number, primary_key=True, autoincrement=False),
    Column("turn", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("call_id", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("arguments", LargeBinary, nullable=False),
    Column("output", Text, nullable=False),
    Column("is_error", Integer, nullable=False),
    Column("milliseconds", Integer, nullable=False),
    clustered=True,
)

note = _table(
    "note",
    Column("note_no", Number, primary_key=True),
    Column("row_no", Number, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("move", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("noted_at", Text, nullable=False),
    Index("note_by_row", "row_no", "turn"),
)

answer = _table(
    "answer",
    Column("row_no", Number, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
)

load = _table(
    "load",
    Column("load_no", Number, primary_key=True),
    Column("run_no", Number, ForeignKey("run.run_no"), nullable=False),
    Column("part", Text, nullable=False, unique=True),
    Column("sink", Text, nullable=False),
    Column("begun_at", Text, nullable=False),
    Column("done_at", Text),
)

loaded = _table(
    "loaded",
    Column("job", Text, primary_key=True),
    Column("row_key", Text, primary_key=True),
    Column("row_id", Text, nullable=False),
    Column("job_version", Text, nullable=False),
    Column("sink", Text, nullable=False),
    Column("part", Text, nullable=False),
    Column("row_no", Number, nullable=False),
    clustered=True,
)

set_aside = _table(
    "set_aside",
    Column("job", Text, primary_key=True),
    Column("row_key", Text, primary_key=True),
    Column("row_id", Text, nullable=False),
    Column("job_version", Text, nullable=False),
    Column("row_no", Number, nullable=False),
    clustered=True,
)

migration = _table(
    "migration",
    Column("name", Text, primary_key=True),
)


def m001_initial(tx: Connection) -> None:
    tables.create_all(tx)


def m002_nothing_twice(tx: Connection) -> None:
    """Doubt, reservations and leases. Only SQLite ledgers are older than this."""
    for added in (
        "run ADD COLUMN budget_micro INTEGER",
        "run ADD COLUMN stopped TEXT",
        "run ADD COLUMN next_micro INTEGER",
        "run ADD COLUMN lease_holder TEXT",
        "run ADD COLUMN lease_until TEXT",
        "row ADD COLUMN longer INTEGER NOT NULL DEFAULT 0",
    ):
        tx.execute(text(f"ALTER TABLE {added}"))
    # A CHECK cannot be altered: the table is made anew.
    kept = (
        "batch_no, run_no, tag, state, api_id, not_ours, rows, bytes, packed_at, posted_at, opened_at, ended_at, "
        "filed_at, detail"
    )
    tx.execute(text("ALTER TABLE batch RENAME TO batch_001"))
    tx.execute(text("DROP INDEX batch_by_state"))
    batch.create(tx)
    tx.execute(text(f"INSERT INTO batch ({kept}) SELECT {kept} FROM batch_001"))
    tx.execute(text("DROP TABLE batch_001"))


# Appended to, never edited: each is applied once, in this order, and its name recorded. A new database is born as the
# tables above say, with all of them recorded.
MIGRATIONS = [m001_initial, m002_nothing_twice]


def migrate(tx: Connection) -> list[str]:
    """Bring the database to the present shape. Returns the names of the migrations that were missing."""
    missing = missing_migrations(tx)
    for apply in missing[:1] if missing == MIGRATIONS else missing:
        apply(tx)
    for each in missing:
        tx.execute(migration.insert(), {"name": each.__name__})
    return [m.__name__ for m in missing]


def missing_migrations(tx: Connection) -> list[Callable[[Connection], None]]:
    """Those this database has not seen, oldest first."""
    applied: set[str] = set()
    if inspect(tx).has_table("migration"):
        applied = set(tx.execute(migration.select()).scalars())
    return [m for m in MIGRATIONS if m.__name__ not in applied]
