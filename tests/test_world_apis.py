"""Which API answered: made-up answers never count as real, and a run goes on with no other API."""

import sqlite3
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW, ask_ledger, make_job, make_rows, make_run
from outside import Done, rowtide

from chaos.lives import emulator
from rowtide.api.api_identity import OWN_EMULATOR, api_in_environment, api_name, check_same_api
from rowtide.errors import UserMistake
from rowtide.job.job_spec import SinkSpec
from rowtide.ledger import job_versions as ledger_job_versions
from rowtide.ledger import loads as ledger_loads
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.ledger import Ledger
from rowtide.sinks.rehearsal_sink import rehearsal_sink

CLAUDE = "https://api.anthropic.com"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("https://api.anthropic.com", CLAUDE),
        ("https://api.anthropic.com/", CLAUDE),
        ("HTTPS://API.Anthropic.com:443", CLAUDE),
        (" https://api.anthropic.com ", CLAUDE),
        ("https://user:secret@gateway.example/claude/", "https://gateway.example/claude"),
        ("https://gateway.example/claude?token=secret#x", "https://gateway.example/claude"),
        ("http://127.0.0.1:8787", "http://127.0.0.1:8787"),
        ("http://[::1]:8787/", "http://[::1]:8787"),
    ],
)
def test_an_api_has_one_name_however_its_url_is_written_and_no_secret_in_it(written: str, name: str) -> None:
    assert api_name(written) == name


@pytest.mark.parametrize("written", ["", "api.anthropic.com", "ftp://x", "http://", "https://x:port", "http://[::1"])
def test_what_is_no_url_is_a_mistake_that_names_the_variable(written: str) -> None:
    with pytest.raises(UserMistake, match="ANTHROPIC_BASE_URL"):
        api_name(written)


@pytest.mark.parametrize(
    ("of_run", "now", "said"),
    [
        (OWN_EMULATOR, CLAUDE, "unset ANTHROPIC_API_KEY"),
        (CLAUDE, OWN_EMULATOR, "set ANTHROPIC_API_KEY to go on"),
        ("http://gateway", OWN_EMULATOR, "set ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL=http://gateway"),
        ("http://gateway", CLAUDE, "set ANTHROPIC_BASE_URL=http://gateway"),
        (CLAUDE, "http://gateway", "unset ANTHROPIC_BASE_URL"),
    ],
)
def test_a_run_goes_on_with_no_other_api_and_says_which_variable_to_set(of_run: str, now: str, said: str) -> None:
    with pytest.raises(UserMistake, match=said):
        check_same_api("run-1", of_run, now)
    check_same_api("run-1", of_run, of_run)
    check_same_api("run-1", "", now)  # a run that names none


def test_without_a_key_whatever_the_url_the_emulator_answers() -> None:
    assert api_in_environment({"ANTHROPIC_BASE_URL": "http://gateway"}) == OWN_EMULATOR
    assert api_in_environment({"ANTHROPIC_API_KEY": "", "ANTHROPIC_BASE_URL": "http://gateway"}) == OWN_EMULATOR
    assert api_in_environment({"ANTHROPIC_API_KEY": "key"}) == CLAUDE


@pytest.mark.parametrize(
    ("sink", "path"),
    [
        ({"path": "results/a"}, "results/a"),
        ({"path": "/elsewhere/out"}, "results/out"),
        ({"path": "../../out"}, "results/out"),
        ({"path": ".."}, "results"),
        ({"kind": "csv", "path": "a/../b"}, "b"),
        ({"kind": "sql", "url": "postgresql://host/db", "table": "sales.leads"}, "results/sales.leads"),
        ({"kind": "sql", "url": "duckdb:////elsewhere/x.duckdb", "table": "t"}, "results/t"),
        ({"kind": "sql", "url": "${NOT_SET}", "table": "a/../../b"}, "results/a_.._.._b"),
    ],
)
def test_a_rehearsal_loads_into_a_folder_of_its_own(sink: dict[str, Any], path: str) -> None:
    assert rehearsal_sink(SinkSpec.model_validate(sink)).path == Path(path)


@pytest.mark.parametrize("table", ["loaded", "unverified"])
def test_what_one_api_settled_is_asked_again_of_another(ledger: Ledger, table: str) -> None:
    """Of ten rows settled by one API, ten are unchanged there, and none elsewhere."""
    first = make_run(ledger, "first", api="http://one")
    numbers = make_rows(ledger, first, 10)
    with ledger.page() as tx:
        if table == "unverified":
            tx.exec_driver_sql("UPDATE row SET state = 'quarantined', turn = 1, reason = 'not_verified'")
            ledger_loads.remember_unverified(tx, first)
        else:
            tx.exec_driver_sql("UPDATE row SET state = 'accepted', turn = 1")
            ledger_rows.write_answers(tx, first, dict.fromkeys(numbers, b"{}"))
    if table == "loaded":
        with ledger.page() as tx:
            part = ledger_loads.begin_load(tx, first, "sink", rows=100, size=1000, now=NOW)
            assert part is not None
            ledger_loads.finish_load(tx, first, part, "sink", now=NOW)
    for api, unchanged in (("http://one", 10), ("http://two", 0), (OWN_EMULATOR, 0)):
        run = make_run(ledger, f"again at {api}", api=api)
        rows = make_rows(ledger, run, 10)
        with ledger.page() as tx:
            assert ledger_job_versions.mark_rows_settled_earlier(tx, run, rows[0], rows[-1]) == unchanged


@dataclass(frozen=True)
class Both:
    """A rehearsal, and after it the same command with a key and a URL."""

    folder: Path
    environment: dict[str, str | None]
    key: dict[str, str | None]
    rehearsal: Done
    table_after_rehearsal: bool
    real: Done

    def ask(self, *words: str, with_key: bool = False) -> Done:
        return rowtide(*words, environment=self.environment | (self.key if with_key else {}), folder=self.folder)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Generator[Both]:
    """Six rows without a key; then with a key, where an emulator of another URL stands for the API."""
    folder = tmp_path_factory.mktemp("both")
    table = folder / "production.db"
    sink = {"kind": "sql", "url": f"sqlite:///{table}", "table": "answers"}
    job = str(make_job(folder / "jobs" / "messages", sink=sink, lane="live"))
    without = {"ANTHROPIC_API_KEY": None, "ANTHROPIC_BASE_URL": None, "ROWTIDE_LEDGER": None}
    environment = {**without, "ROWTIDE_HOME": str(folder / "home"), "ROWTIDE_PAGE": "0"}
    with emulator(folder / "other", "0..0.1") as url:
        key: dict[str, str | None] = {"ANTHROPIC_API_KEY": "sk-second", "ANTHROPIC_BASE_URL": url}
        rehearsal = rowtide("run", job, "--json", environment=environment, folder=folder)
        exists = table.exists()
        real = rowtide("run", job, "--json", environment=environment | key, folder=folder)
        yield Both(folder, environment, key, rehearsal, exists, real)


def test_nothing_of_a_rehearsal_counts_for_a_run_with_a_key(both: Both) -> None:
    assert (both.rehearsal.status, both.rehearsal.summary["loaded"]) == (0, 6)
    assert (both.real.status, both.real.summary["loaded"], both.real.summary["unchanged"]) == (0, 6, 0)
    assert both.real.summary["turns"] >= 6
    runs = ask_ledger(both.folder / "home", "SELECT api FROM run")
    assert runs == [(both.key["ANTHROPIC_BASE_URL"],)]
    assert ask_ledger(both.folder / "home" / "rehearsal", "SELECT DISTINCT api FROM loaded") == [(OWN_EMULATOR,)]


def test_no_made_up_answer_reaches_the_jobs_table(both: Both) -> None:
    first = both.rehearsal.err.splitlines()[0]
    assert first.startswith("rehearsal: no ANTHROPIC_API_KEY")
    assert "not to the table answers" in first
    assert not both.table_after_rehearsal
    assert list((both.folder / "home" / "rehearsal" / "results" / "answers").glob("*.parquet"))
    with sqlite3.connect(both.folder / "production.db") as table:
        assert table.execute("SELECT count(*) FROM answers").fetchone() == (6,)


def test_commands_find_a_rehearsal_without_being_told_where(both: Both) -> None:
    made_up, real = both.rehearsal.summary["run_id"], both.real.summary["run_id"]
    assert both.ask("show", "m1", "--run", made_up).status == 0
    assert both.ask("quarantine", "list", made_up).status == 0
    said = both.ask("runs").out
    assert made_up in said
    assert real in said


def test_resume_refuses_the_other_api_by_name(both: Both) -> None:
    made_up, real = both.rehearsal.summary["run_id"], both.real.summary["run_id"]
    for command in ("resume", "cancel"):
        with_key = both.ask(command, made_up, with_key=True)
        assert (with_key.status, "unset ANTHROPIC_API_KEY" in with_key.err) == (2, True)
        without = both.ask(command, real)
        assert (without.status, f"ANTHROPIC_BASE_URL={both.key['ANTHROPIC_BASE_URL']}" in without.err) == (2, True)
