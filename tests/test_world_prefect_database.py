"""Prefect's own database: every spelling of its URL is one that Prefect opens, and a wrong one a sentence; exit 2."""

from pathlib import Path

import pytest
from conftest import make_job
from outside import rowtide

from cli.prefect_database import NAMES, prefect_database_settings
from rowtide.errors import UserMistake

SPELLINGS = [
    ("postgres://u:p%40@/d?host=/run/pg", "postgresql+asyncpg://u:p%40@/d?host=%2Frun%2Fpg"),
    ("postgresql://u@/d?host=/run/pg&sslmode=require", "postgresql+asyncpg://u@/d?host=%2Frun%2Fpg&ssl=require"),
    ("POSTGRESQL+psycopg2://u@%2Frun%2Fpg/d", "postgresql+asyncpg://u@/d?host=%2Frun%2Fpg"),
    ("postgresql+asyncpg://u@/d?host=/run/pg", "postgresql+asyncpg://u@/d?host=%2Frun%2Fpg"),
    ("sqlite:////tmp/prefect.db", "sqlite+aiosqlite:////tmp/prefect.db"),
    ("sqlite+aiosqlite:///prefect.db", "sqlite+aiosqlite:///prefect.db"),
    ("SQLite:///:memory:", "sqlite+aiosqlite:///:memory:"),
]
WRONG = [
    "not a url", "postgresql:/u@h/d", "mysql://u:secret@h/d", "duckdb:///x.duckdb", "postgres://u:secret@127.0.0.1:1/d",
    "postgres://u:secret@nowhere.invalid/d", "sqlite:////nowhere/at/all/prefect.db", "sqlite://prefect.db",
    "postgres://u:secret@h:port/d",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("written", "taken"), SPELLINGS)
def test_a_url_is_one_that_prefect_opens_however_it_is_written(name: str, written: str, taken: str) -> None:
    assert prefect_database_settings({name: written}) == dict.fromkeys(NAMES, taken)


@pytest.mark.parametrize("written", WRONG)
def test_a_wrong_url_is_told_by_its_variable_and_without_its_password(written: str) -> None:
    with pytest.raises(UserMistake, match=f"^{NAMES[1]}: ") as refused:
        prefect_database_settings({NAMES[1]: written})
    assert "secret" not in str(refused.value)


def test_where_none_is_named_nothing_is_changed() -> None:
    assert prefect_database_settings({NAMES[0]: ""}) == {}


def test_a_run_through_prefect_with_a_database_that_is_none_exits_2(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows=2)
    given = {NAMES[1]: "postgres://u:secret@127.0.0.1:1/d", "ROWTIDE_HOME": str(tmp_path / "home")}
    done = rowtide("run", job, "--prefect", environment={**given, "PREFECT_API_URL": None, "ANTHROPIC_API_KEY": None})
    assert done.status == 2
    assert done.err.splitlines()[-1].startswith(f"rowtide: {NAMES[1]}: nobody answers at 127.0.0.1:1")
