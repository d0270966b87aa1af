"""How an older ledger becomes one of today: numbered steps, each applied once and recorded."""

from collections.abc import Callable

from sqlalchemy import Connection, inspect, text

from rowtide.ledger.schema import (
    approval,
    batch,
    estimate,
    loaded,
    memo,
    migration,
    prefix,
    tables,
    unavailable_model,
    version,
    visit,
)
from rowtide.ledger.schema_gates import hold, profile, verdict
from rowtide.ledger.schema_work import (
    breach,
    claim,
    flow_run,
    message,
    message_row,
    run_request,
    told,
    untold,
    worker,
)


def m001_initial(tx: Connection) -> None:
    tables.create_all(tx)


def m002_nothing_twice(tx: Connection) -> None:
    """Doubt, reservations and leases. Only SQLite ledgers are older than this."""
    for added in (
        "run budget_micro INTEGER",
        "run stopped TEXT",
        "run next_micro INTEGER",
        "run lease_holder TEXT",
        "run lease_until TEXT",
        "row longer INTEGER NOT NULL DEFAULT 0",
    ):
        _add(tx, added)
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


def m003_tools_and_skills(tx: Connection) -> None:
    """Remembered calls, approvals, self-checks and prefixes by group."""
    for added in (
        "run servers TEXT NOT NULL DEFAULT '{}'",
        "row tokens INTEGER NOT NULL DEFAULT 0",
        "row checking INTEGER NOT NULL DEFAULT 0",
        "row prefix_no INTEGER NOT NULL DEFAULT 0",
        "turn kind TEXT NOT NULL DEFAULT 'answer'",
        "tool_call remembered INTEGER NOT NULL DEFAULT 0",
    ):
        _add(tx, added)
    for made in (prefix, memo, approval):
        made.create(tx)
    kept = "run_no, prefix_no, skills, content"
    tx.execute(text(f"INSERT INTO prefix ({kept}) SELECT run_no, 0, '[]', request FROM run"))


def m004_lanes_and_routing(tx: Connection) -> None:
    """Lanes, routing, fallbacks."""
    for added in (
        "run chosen_lane TEXT",
        "run lane_why TEXT",
        "run finish_by TEXT",
        "row effort TEXT",
        "row turn_limit INTEGER",
        "row rule INTEGER",
        "row after_no INTEGER",
        "batch lane TEXT NOT NULL DEFAULT 'batch'",
        "batch cost_micro INTEGER NOT NULL DEFAULT 0",
        "batch took_seconds REAL",
        "turn model TEXT",
    ):
        _add(tx, added)
    for made in (estimate, unavailable_model, visit):
        made.create(tx)
    tx.execute(text("CREATE INDEX IF NOT EXISTS row_by_after ON row (after_no) WHERE after_no IS NOT NULL"))
    spent = "SELECT coalesce(sum(t.cost_micro), 0) FROM turn t WHERE t.batch_no = batch.batch_no"
    tx.execute(text(f"UPDATE batch SET cost_micro = ({spent})"))


def m005_loads(tx: Connection) -> None:
    """A load names its rows by number, and what is loaded is remembered for each sink."""
    for name in ("first_row", "last_row", "rows"):
        _add(tx, f"load {name} INTEGER NOT NULL DEFAULT 0")
    for name, value in (("first_row", "min(row_no)"), ("last_row", "max(row_no)"), ("rows", "count(*)")):
        counted = f"SELECT coalesce({value}, 0) FROM row WHERE row.load_no = load.load_no AND row.state = 'accepted'"
        tx.execute(text(f"UPDATE load SET {name} = ({counted}) WHERE done_at IS NULL"))
    kept = "job, row_key, sink, row_id, part, row_no"
    tx.execute(text("ALTER TABLE loaded RENAME TO loaded_004"))
    loaded.create(tx)
    tx.execute(text(f"INSERT INTO loaded ({kept}, asking) SELECT {kept}, job_version FROM loaded_004"))
    tx.execute(text("DROP TABLE loaded_004"))


def m006_quarantine(tx: Connection) -> None:
    """Who made a move, what it replaced, and in which sheet he said so."""
    for added in ("note who TEXT", f"note was {'BLOB' if tx.dialect.name == 'sqlite' else 'BYTEA'}", "note sheet TEXT"):
        _add(tx, added)


def m007_gates(tx: Connection) -> None:
    """What gates said, what they compare with, and what they hold."""
    for made in (verdict, profile, hold):
        made.create(tx)


def m008_inbox(tx: Connection) -> None:
    """Messages that come by webhook."""
    for made in (message, message_row):
        made.create(tx)


def m009_flow_runs(tx: Connection) -> None:
    """Which of Prefect's flow runs work on a run."""
    flow_run.create(tx)


def m010_workers(tx: Connection) -> None:
    """Many workers on one run, and what each has in hand."""
    for made in (worker, claim):
        made.create(tx)


def m011_objectives(tx: Connection) -> None:
    """Since when objectives are breached, and what was told."""
    for made in (breach, told):
        made.create(tx)


def m012_versions(tx: Connection) -> None:
    """What a job was in two fingerprints, and the version of each row, turn, answer and load.

    What an older Rowtide knew of a job's version is no fingerprint of today's: its rows are asked once more.
    """
    version.create(tx)
    parts = """'{"asking":' || job_files || ',"judging":{}}'"""
    if "job_version" in _columns(tx, "run"):
        begun = f"SELECT run_no, job_version, job_version, {parts}, started_at FROM run"
        tx.execute(text(f"INSERT INTO version (run_no, asking, judging, parts, taken_at) {begun}"))
        for name in ("job_version", "job_files"):
            tx.execute(text(f"ALTER TABLE run DROP COLUMN {name}"))
    for table in ("run", "row", "prefix", "turn", "answer"):
        _add(tx, f"{table} version_no INTEGER NOT NULL DEFAULT 0")
    for table in ("loaded", "set_aside"):
        if "job_version" in _columns(tx, table):
            tx.execute(text(f"ALTER TABLE {table} RENAME COLUMN job_version TO asking"))
        _add(tx, f"{table} judging TEXT NOT NULL DEFAULT ''")


def m013_which_api(tx: Connection) -> None:
    """Which API answered. What was settled before counts for none: nobody wrote down who answered it."""
    for table in ("run", "loaded", "set_aside"):
        _add(tx, f"{table} api TEXT NOT NULL DEFAULT ''")
    _add(tx, "run made_up INTEGER NOT NULL DEFAULT 0")


def m014_stops(tx: Connection) -> None:
    """Why a run stopped, in words; how its rows stood at the beginning of a round; what nobody knows the cost of."""
    for added in ("run stop_detail TEXT", "run round_mark TEXT", "batch unknown_micro INTEGER NOT NULL DEFAULT 0"):
        _add(tx, added)


def m015_memories(tx: Connection) -> None:
    """When live calls were made, and those that are remembered. What is remembered without may be too old: it goes."""
    _add(tx, "turn asked_at TEXT")
    _add(tx, "memo asked_at TEXT NOT NULL DEFAULT ''")
    tx.execute(text("DELETE FROM memo"))


def m016_asked_once(tx: Connection) -> None:
    """Which messages Prefect is still to be told of, and which runs were asked for over HTTP."""
    for made in (untold, run_request):
        made.create(tx)


def m017_on_call(tx: Connection) -> None:
    """Whom to call about a run, and where it stands what to do."""
    for added in ("run owner TEXT", "run runbook TEXT"):
        _add(tx, added)


def m018_shown(tx: Connection) -> None:
    """What a person was shown of calls and gates, and what was decided about. What waits is shown once more."""
    for added in ("approval shown_hash TEXT", "approval decided_hash TEXT", "hold shown_hash TEXT"):
        _add(tx, added)


# Appended to, never edited: each is applied once, in this order, and its name recorded. A new database is born as the
# tables above say, with all of them recorded.
MIGRATIONS = [
    m001_initial,
    m002_nothing_twice,
    m003_tools_and_skills,
    m004_lanes_and_routing,
    m005_loads,
    m006_quarantine,
    m007_gates,
    m008_inbox,
    m009_flow_runs,
    m010_workers,
    m011_objectives,
    m012_versions,
    m013_which_api,
    m014_stops,
    m015_memories,
    m016_asked_once,
    m017_on_call,
    m018_shown,
]


def migrate(tx: Connection) -> list[str]:
    """Bring the database to the present shape. Returns the names of the migrations that were missing."""
    missing = missing_migrations(tx)
    for apply in missing[:1] if missing == MIGRATIONS else missing:
        apply(tx)
    for each in missing:
        tx.execute(migration.insert(), {"name": each.__name__})
    return [m.__name__ for m in missing]


def _add(tx: Connection, column: str) -> None:
    """`row tier INTEGER`: add a column. A table that an earlier step made as it is today has it already."""
    table, name, *_ = column.split()
    if name not in _columns(tx, table):
        tx.execute(text(f"ALTER TABLE {table} ADD COLUMN {column.removeprefix(table)}"))


def _columns(tx: Connection, table: str) -> set[str]:
    return {str(each["name"]) for each in inspect(tx).get_columns(table)}


def missing_migrations(tx: Connection) -> list[Callable[[Connection], None]]:
    """Those this database has not seen, oldest first."""
    applied: set[str] = set()
    if inspect(tx).has_table("migration"):
        applied = set(tx.execute(migration.select()).scalars())
    return [m for m in MIGRATIONS if m.__name__ not in applied]
