"""Ledgers that are large, that others work on, and that go away in the middle of a load."""

import logging
import tracemalloc
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from threading import Event
from typing import Any

import orjson
import postgres
import psycopg
import pytest
from conftest import NOW, answers_of, make_job, make_run, run, wait_until
from run_summaries import summarize

from cli.terminal_run import take
from rowtide.errors import RowtideError, WorldError
from rowtide.intake.admission import Admission
from rowtide.job.job_folder import Job, load_job
from rowtide.ledger import claims as ledger_claims
from rowtide.ledger import leases as ledger_leases
from rowtide.ledger import quarantine as ledger_quarantine
from rowtide.ledger import quarantine_selection as ledger_quarantine_selection
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.quarantine import Signature
from rowtide.ledger.read.report_data import read_report_data
from rowtide.report.report_text import requests_for_a_person, run_status
from rowtide.stages import quarantine_actions

ROWS, LONG = 1500, 100_000
MOST_BYTES = 60_000_000  # two pages of 200 such rows have 40 MB
ME = Signature("ada", NOW)


def retry(ledger: Ledger, of: Run, job: Job) -> int:
    return quarantine_actions.resend_rows(ledger, of, job, [], None, None, ME, every=True)[0]


def drop(ledger: Ledger, of: Run, _: Job) -> int:
    with ledger.page() as tx:
        pages = ledger_quarantine_selection.select_quarantined(tx, of, [], "truncated", every=False)
        return sum(ledger_quarantine.discard_rows(tx, page, "too long", ME) for page in pages)


def export(ledger: Ledger, of: Run, job: Job) -> int:
    class Nowhere(StringIO):
        def write(self, text: str) -> int:
            return len(text)

    return quarantine_actions.write_sheet(ledger, of, job, None, "jsonl", Nowhere()).rows


@pytest.mark.parametrize("act", [retry, drop, export])
def test_a_large_quarantine_is_never_held_in_memory(
    act: Callable[[Ledger, Run, Job], int], sqlite_ledger: Ledger, tmp_path: Path
) -> None:
    of, job = make_run(sqlite_ledger), load_job(make_job(tmp_path / "job"))
    for start in range(0, ROWS, 100):
        rows = [
            Admission(
                of.first_row_no + n + 1, f"k{n}", f"i{n}", orjson.dumps({"message": f"{n} " * (LONG // 5)}), "truncated"
            )
            for n in range(start, start + 100)
        ]
        with sqlite_ledger.page() as tx:
            assert ledger_rows.admit_rows(tx, of, rows, read_before=start, read_after=start + 100, now=NOW)
    tracemalloc.start()
    try:
        assert act(sqlite_ledger, of, job) == ROWS
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


def test_a_run_that_any_process_works_on_is_going_on_and_nobody_is_told_to_resume_it(ledger: Ledger) -> None:
    of, elsewhere = make_run(ledger), "another-machine:1:1@x:a"
    with ledger.page() as tx:
        seen = read_report_data(tx, of, golden={}, now=NOW)
        assert run_status(summarize(tx, of, now=NOW), seen) == "idle"
        ledger_claims.join_run(tx, of.run_id, elsewhere, now=NOW)  # as those do that share a run on PostgreSQL
        found, seen = summarize(tx, of, now=NOW), read_report_data(tx, of, golden={}, now=NOW)
        assert run_status(found, seen) == "going on"
        assert requests_for_a_person(found, seen) == []
        later = NOW + ledger_leases.LEASE * 2
        assert run_status(summarize(tx, of, now=later), read_report_data(tx, of, golden={}, now=later)) == "idle"


@contextmanager
def away_at_load(folder: Path, told: Callable[[], object]) -> Generator[Callable[[str], None]]:
    """A server that is stopped as the first load begins, and comes back when that is `told` of."""
    stages: list[str] = []

    def come_back() -> None:
        wait_until(told, within_seconds=100)
        postgres.restart(folder, "start")

    with ThreadPoolExecutor(1) as pool:

        def on_stage(name: str) -> None:
            if name == "load" and name not in stages:
                postgres.restart(folder, "stop")
                pool.submit(come_back)
            stages.append(name)

        yield on_stage
    assert "load" in stages


def test_a_ledger_that_goes_away_as_a_load_begins_is_waited_for(
    api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with postgres.server() as folder:
        monkeypatch.setenv("ROWTIDE_LEDGER", f"postgresql://postgres@/postgres?host={folder}")
        with (
            caplog.at_level(logging.WARNING),
            away_at_load(folder, lambda: "is out of reach" in caplog.text) as on_stage,
        ):
            found = run(make_job(tmp_path / "job", rows=6), on_stage=on_stage)
        assert (found["loaded"], found["stopped"]) == (6, None)
        assert len(answers_of(tmp_path / "home")) == 6
        assert api.world.bill_of(f"key-{tmp_path.name}")["requests"] == 6


@pytest.mark.parametrize("is_back", [True, False])
def test_a_sink_that_goes_away_as_a_load_begins_is_tried_again_or_loaded_by_resume(
    is_back: bool, api: Any, tmp_path: Path
) -> None:
    over = Event()
    with postgres.server() as folder:
        sink = {"kind": "sql", "url": f"postgresql://postgres@/postgres?host={folder}", "table": "answers"}
        job = make_job(tmp_path / "job", rows=6, sink=sink)
        with away_at_load(folder, lambda: is_back or over.is_set()) as on_stage:
            try:
                loaded = run(job, on_stage=on_stage, run_id="r")["loaded"]
            except WorldError:
                loaded = 0
            finally:
                over.set()
        assert loaded == (6 if is_back else 0)
        assert run(job, run_id="r")["loaded"] == 6
        with psycopg.connect(f"host={folder} user=postgres dbname=postgres") as connection:
            rows = connection.execute("SELECT count(*), count(DISTINCT row_key) FROM answers").fetchone()
        assert rows == (6, 6)
        assert api.world.bill_of(f"key-{tmp_path.name}")["requests"] == 6


async def test_a_run_that_the_world_fails_in_the_end_says_how_to_go_on() -> None:
    async def go(**_: Any) -> dict[str, Any]:
        raise WorldError("the sink is away")

    with pytest.raises(RowtideError, match="the sink is away; what was committed is kept: rowtide resume r$"):
        await take(go, "r", {})
