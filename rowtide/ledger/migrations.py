"""Migrations of a ledger: numbered steps, each applied once and recorded by its name."""

from collections.abc import Callable

from sqlalchemy import Connection, inspect

from rowtide.errors import UserMistake
from rowtide.ledger.eval_schema import eval_
from rowtide.ledger.schema import migration, tables

Migration = Callable[[Connection], None]


def m001_first_release(tx: Connection) -> None:
    """Create every table of `schema.py` and `eval_schema.py`."""
    assert eval_.metadata is tables, "importing its file has added the tables of evals"
    tables.create_all(tx)


# Append only, never edit. A new ledger gets today's tables, and all names are recorded.
MIGRATIONS: list[Migration] = [m001_first_release]


def migrate(tx: Connection) -> list[str]:
    """Bring the ledger to the present schema. Returns the names of the migrations that were missing."""
    missing = missing_migrations(tx)
    for apply in missing[:1] if missing == MIGRATIONS else missing:
        apply(tx)
    for each in missing:
        tx.execute(migration.insert(), {"name": each.__name__})
    return [each.__name__ for each in missing]


def missing_migrations(tx: Connection) -> list[Migration]:
    """Return the migrations this ledger lacks, oldest first. Raises UserMistake when it has unknown ones."""
    seen: set[str] = set()
    if inspect(tx).has_table(migration.name):
        seen = set(tx.execute(migration.select()).scalars())
    if unknown := seen - {each.__name__ for each in MIGRATIONS}:
        raise UserMistake(
            f"the ledger was written by another version of Rowtide, which knows {', '.join(sorted(unknown))}: open it "
            "with that version, or name another ledger in ROWTIDE_LEDGER"
        )
    return [each for each in MIGRATIONS if each.__name__ not in seen]
