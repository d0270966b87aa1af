"""Ways out: accepted answers into any sink, out as a table, and what is old or personal out of the ledger."""

import csv
import io
import sqlite3
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from conftest import NOW, answers_of, ask_ledger, make_job, make_rows, make_run
from outside import Done, rowtide

from rowtide.ledger import purge_text as ledger_purge_text
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.ledger import Ledger, ledger_url

ROWS = 12
SECRET = "Ada Lovelace, born in Marylebone"


class Home:
    """A run of twelve accepted rows that a dead table never took."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.folder, self.url = folder, url or ledger_url(None, folder / "home")
        sink = {"kind": "sql", "url": f"sqlite:///{folder}/no/such/place/x.db", "table": "answers", "part_rows": 5}
        self.job = make_job(folder / "jobs" / "messages", sink=sink)
        self.ledger = Ledger(self.url)
        self.run("run-1")

    def run(self, run_id: str, topic: str = "billing", rows: int = ROWS) -> None:
        run = make_run(self.ledger, run_id, job="messages", job_folder=str(self.job), api="https://api.anthropic.com")
        numbers = make_rows(self.ledger, run, rows)
        with self.ledger.page() as tx:
            tx.exec_driver_sql(f"UPDATE row SET state = 'accepted', turn = 1 WHERE run_no = {run.run_no}")
            tx.exec_driver_sql(
                f"UPDATE run SET extracted_at = started_at, finished_at = started_at, read_rows = {rows}"
            )
            answers = {no: orjson.dumps({"topic": topic, "message": f"{SECRET} {no % 100}"}) for no in numbers}
            ledger_rows.write_answers(tx, run, answers)

    def ask(self, *words: str | Path) -> Done:
        environment = {"ROWTIDE_HOME": str(self.folder / "home"), "ROWTIDE_LEDGER": None, "ANTHROPIC_API_KEY": "key"}
        return rowtide(*words, environment=environment, folder=self.folder)


@pytest.fixture
def home(tmp_path: Path) -> Any:
    return Home(tmp_path)


def test_answers_that_no_sink_took_are_loaded_into_another_and_twice_is_once(home: Home) -> None:
    home.run("run-2", topic="delivery", rows=4)
    for _ in range(2):
        done = home.ask("reload", "messages", "--sink", home.folder / "out")
        assert (done.status, f"{ROWS} rows loaded" in done.out) == (0, True), done.err
    found = answers_of(home.folder, "out")
    assert len(found) == ROWS
    assert [each["topic"] for each in found.values()].count("delivery") == 4
    assert home.ask("reload", "run-1", "--sink", home.folder / "out").status == 0
    assert answers_of(home.folder, "out") == found  # what a later run loaded stands


def test_a_table_that_lost_its_rows_is_filled_again(home: Home) -> None:
    table = home.folder / "repaired.db"
    where = ("--sink", f"sqlite:///{table}", "--table", "answers")
    for _ in range(2):
        assert home.ask("reload", "run-1", *where).status == 0
        with sqlite3.connect(table) as db:
            assert db.execute("SELECT count(*), count(DISTINCT row_key) FROM answers").fetchone() == (ROWS, ROWS)
            db.execute("DELETE FROM answers")
    assert home.ask("reload", "run-1", "--sink", f"sqlite:///{table}").status == 2
    assert home.ask("reload", "run-9").status == 2


def test_results_are_read_without_knowing_where_they_were_loaded(home: Home) -> None:
    printed = list(csv.DictReader(io.StringIO(home.ask("results", "messages").out)))
    assert [each["row_key"] for each in printed] == [f"key-{n}" for n in range(1, ROWS + 1)]
    assert {(each["_run"], each["_api"], each["_tier"]) for each in printed} == {
        ("run-1", "https://api.anthropic.com", "haiku")
    }
    file = home.folder / "some.parquet"
    assert home.ask("results", "run-1", "--where", "message LIKE '% 7'", "--to", file).status == 0
    assert [each["row_key"] for each in pq.read_table(file).to_pylist()] == ["key-7"]
    for ending in ("csv", "json", "jsonl"):
        assert home.ask("results", "run-1", "--to", home.folder / f"all.{ending}").status == 0
    assert len(orjson.loads((home.folder / "all.json").read_bytes())) == ROWS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("results", "mesages"), "did you mean 'messages'"),
        (("results", "messages", "--where", "topik = 1"), "columns: row_key, topic, message"),
        (("results", "messages", "--where", "1 = 1) --"), "rowtide"),
        (("results", "messages", "--to", "x.xls"), ".parquet"),
        (("purge",), "--older-than 30d"),
        (("purge", "--older-than", "soon"), "such as 30d"),
        (("purge", "--run", "run-9"), "no run"),
    ],
)
def test_a_mistake_is_one_sentence(home: Home, words: tuple[str, ...], said: str) -> None:
    done = home.ask(*words)
    assert said in done.err or words[-1] == "1 = 1) --"
    assert done.status == 2 or words[-1] == "1 = 1) --"


def test_what_is_purged_is_in_no_file_and_counts_and_keys_stay(home: Home) -> None:
    with home.ledger.page() as tx:
        tx.exec_driver_sql("UPDATE row SET state = 'loaded'")
    report = home.folder / "home" / "reports" / "run-1.html"
    report.parent.mkdir(parents=True)
    report.write_text(SECRET)
    dry = home.ask("purge", "--job", "messages")
    assert (dry.status, "nothing was deleted" in dry.out, report.exists()) == (0, True, True)
    home.ledger.close()
    for _ in range(2):
        assert home.ask("purge", "--job", "messages", "--yes").status == 0
    files = [file for file in (home.folder / "home").rglob("*") if file.is_file()]
    assert not [file for file in files if b"Lovelace" in file.read_bytes() or b"row 7" in file.read_bytes()]
    assert ask_ledger(home.folder / "home", "SELECT count(*), min(state) FROM row") == [(ROWS, "loaded")]
    assert "its text was purged" in home.ask("show", "key-7").out
    assert home.ask("results", "messages").out.count("\n") == 1


def test_one_key_is_purged_alone_and_a_run_in_progress_not_at_all(home: Home) -> None:
    refused = home.ask("purge", "--run", "run-1", "--yes")
    assert (refused.status, "in progress" in refused.err) == (2, True)
    with home.ledger.page() as tx:
        tx.exec_driver_sql("UPDATE row SET state = 'loaded'")
    assert home.ask("purge", "--key", "key-7", "--yes").status == 0
    left = ask_ledger(home.folder / "home", "SELECT count(*) FROM answer")
    assert left == [(ROWS - 1,)]


def test_purging_is_the_same_on_both_engines_and_messages_that_were_read_lose_their_text(
    tmp_path: Path, address: str
) -> None:
    home = Home(tmp_path, address)
    with home.ledger.page() as tx:
        tx.exec_driver_sql("UPDATE row SET state = 'loaded'")
        tx.exec_driver_sql(
            "INSERT INTO message (job, message_id, body_hash, receipt, rows, received_at) "
            "VALUES ('messages', 'm', 'h', 't', 1, '2026-01-01T00:00:00.000000Z')"
        )
        kind = "BLOB" if tx.dialect.name == "sqlite" else "bytea"
        tx.exec_driver_sql(
            "INSERT INTO message_row (message_no, job, row_key, content, run_id) "
            f"SELECT message_no, 'messages', 'k', CAST('{SECRET}' AS {kind}), 'run-1' FROM message"
        )
        assert ledger_purge_text.prune_messages(tx, before=NOW) == 1
        assert ledger_purge_text.prune_messages(tx, before=NOW) == 0
        (run,) = ledger_purge_text.purgeable_runs(tx, job="messages", run_id=None, key=None, before=None)
    ledger_purge_text.purge_run(home.ledger, run, "key-7", now=NOW)
    ledger_purge_text.purge_run(home.ledger, run, None, now=NOW)
    ledger_purge_text.reclaim_space(home.ledger)
    with home.ledger.view() as tx:
        assert ledger_purge_text.purgeable_runs(tx, job=None, run_id=None, key=None, before=None) == []
        assert tx.exec_driver_sql("SELECT count(*) FROM answer").scalar() == 0
    home.ledger.close()
