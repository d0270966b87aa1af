"""How an older ledger becomes one of today: numbered steps, each applied once and recorded."""

from collections.abc import Callable

from sqlalchemy import Connection, inspect, text

from rowtide.ledger_tables import approval, batch, memo, migration, prefix, tables


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


def m003_tools_and_skills(tx: Connection) -> None:
    """Remembered calls, approvals, self-checks and prefixes by group."""
    for added in (
        "run ADD COLUMN servers TEXT NOT NULL DEFAULT '{}'",
        "row ADD COLUMN tokens INTEGER NOT NULL DEFAULT 0",
        "row ADD COLUMN checking INTEGER NOT NULL DEFAULT 0",
        "row ADD COLUMN prefix_no INTEGER NOT NULL DEFAULT 0",
        "turn ADD COLUMN kind TEXT NOT NULL DEFAULT 'answer'",
        "tool_call ADD COLUMN remembered INTEGER NOT NULL DEFAULT 0",
    ):
        tx.execute(text(f"ALTER TABLE {added}"))
    for made in (prefix, memo, approval):
        made.create(tx)
    tx.execute(text("INSERT INTO prefix SELECT run_no, 0, '[]', request FROM run"))


# Appended to, never edited: each is applied once, in this order, and its name recorded. A new database is born as the
# tables above say, with all of them recorded.
MIGRATIONS = [m001_initial, m002_nothing_twice, m003_tools_and_skills]


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
