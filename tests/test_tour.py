"""Read this first: promises 1, 2, 4 and 7 of the README, tried end to end; docs/reliability.md lists every test."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import answers_of, ask_ledger, make_job, run, wait_until
from sqlalchemy import text

from rowtide.ledger.ledger import Ledger, ledger_url

THIRTY = (str(Path("jobs/companies").resolve()), "--limit", "30", "--lane", "batch")
SAME = ("rows", "loaded", "quarantined", "reasons", "batches", "turns", "tool_calls", "cost_usd", "tiers")


def add_up(found: dict[str, Any]) -> bool:
    ended = ("loaded", "quarantined", "unchanged", "held")
    return found["rows"] == sum(found[name] for name in ended)


def test_no_row_is_lost(api: Any, tmp_path: Path) -> None:
    rows = b"id,message\nm1,an invoice\n,no key\nm1,the same key\nm2,\xff\xfe\nm3,a parcel,too wide\nm4,a parcel\n"
    found = run(make_job(tmp_path / "job", rows=rows))
    assert (found["rows"], found["loaded"], found["quarantined"]) == (6, 2, 4)
    assert found["reasons"] == {"duplicate_key": 1, "missing_key": 1, "undecodable": 1, "wrong_width": 1}
    assert sorted(answers_of(tmp_path / "home")) == ["m1", "m4"]


def test_no_batch_is_paid_for_twice_when_the_reply_to_the_post_is_lost(api: Any, faults: Any, tmp_path: Path) -> None:
    faults({"call": "create", "first": 1, "do": {"drop": "after"}})
    found = run(make_job(tmp_path / "job", rows=50))
    assert (found["loaded"] + found["quarantined"], found["batches"]) == (50, 1 + extra_batches(tmp_path))
    assert billed_batches(api) == found["batches"]


def test_nothing_is_sent_for_a_row_that_an_earlier_run_settled(api: Any, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows="id,message\nm1,an invoice\nm2,a parcel [emulator:refuse]\nm3,a parcel\n")
    first = run(job)
    again = run(job)
    assert (first["loaded"], first["reasons"]) == (2, {"refused": 1})
    assert (again["unchanged"], again["quarantined_before"], again["turns"], again["batches"]) == (3, 1, 0, 0)
    assert add_up(again)


def test_changed_content_is_asked_again_and_stands_once_in_the_sink(api: Any, tmp_path: Path) -> None:
    run(make_job(tmp_path / "job", rows=12))
    job = make_job(tmp_path / "job", rows="id,message\nm0,now the parcel is late\nm1,the parcel is late (1)\n")
    found = run(job)
    assert (found["unchanged"], found["loaded"]) == (1, 1)
    assert answers_of(tmp_path / "home")["m0"]["topic"] == "delivery"
    assert len(answers_of(tmp_path / "home")) == 12


@pytest.fixture(scope="module")
def undisturbed(emulator_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a run of thirty companies comes to when nobody disturbs it."""
    home = tmp_path_factory.mktemp("calm")
    return finish(start(home, emulator_server.url, "run", *THIRTY)), answers_of(home, "results/companies")


@pytest.mark.slow
@pytest.mark.parametrize(("batches", "way"), [(0, "alone"), (1, "under Prefect"), (2, "alone"), (3, "alone")])
def test_a_run_killed_at_any_moment_resumes_to_the_same_end(
    emulator_server: Any, tmp_path: Path, undisturbed: Any, batches: int, way: str, request: pytest.FixtureRequest
) -> None:
    url, home = emulator_server.url, tmp_path / "killed"
    prefect = {"PREFECT_API_URL": request.getfixturevalue("prefect_server")} if way == "under Prefect" else {}
    process = start(home, url, "run", *THIRTY, **prefect)
    wait_for_ledger(home, batches=batches, process=process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    ((run_id,),) = ask_ledger(home, "SELECT run_id FROM run")
    found = finish(start(home, url, "resume", run_id, **prefect))
    calm, answers = undisturbed
    assert add_up(found)
    assert {name: found[name] for name in SAME} == {name: calm[name] for name in SAME}
    assert found["batches"] == len(emulator_server.world.batches_of(f"key-{home}"))
    assert answers_of(home, "results/companies") == answers


def test_a_model_is_a_line_of_config(api: Any, tmp_path: Path) -> None:
    found = run(make_job(tmp_path / "job", tiers=["opus"]))
    assert list(found["tiers"]) == ["opus"]


def billed_batches(api: Any) -> int:
    return len(api.world.batches_of(os.environ["ANTHROPIC_API_KEY"]))


def extra_batches(tmp_path: Path) -> int:
    """Batches that corrections took, over the first."""
    ledger = Ledger(ledger_url(None, tmp_path / "home"))
    with ledger.view() as tx:
        later = tx.execute(text("SELECT count(DISTINCT batch_no) FROM turn WHERE turn > 1")).scalar_one()
    ledger.close()
    return later


def start(home: Path, api_url: str, *words: str, **environment: str) -> "subprocess.Popen[str]":
    """A command in a process and an account of its own: a shared one would share its prompt cache, and bills differ."""
    given = {"ANTHROPIC_API_KEY": f"key-{home}", "ANTHROPIC_BASE_URL": api_url, "ROWTIDE_HOME": str(home)}
    quiet = {"ROWTIDE_PAGE": "0", "ROWTIDE_PREFECT_PORT": "0"}  # a report's page takes seconds to draw
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *words, "--json"],
        env={**os.environ, **given, **quiet, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", *, status: int = 0) -> Any:
    """The JSON that it prints last, for a run its summary."""
    said, _ = process.communicate(timeout=120)
    assert process.returncode == status
    return json.loads(said.splitlines()[-1])


def wait_for_ledger(home: Path, *, batches: int, process: "subprocess.Popen[str]") -> None:
    """Return as soon as the ledger knows so many batches (or, for none, is there at all)."""

    def is_there() -> bool:
        if not (home / "ledger.db").exists():
            return False
        ((rows, known),) = ask_ledger(home, "SELECT (SELECT count(*) FROM row), (SELECT count(*) FROM batch)")
        return rows > 0 and known >= batches

    wait_until(lambda: process.poll() is not None or is_there())
