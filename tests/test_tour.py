"""Read this first: promises 1, 2, 4 and 7 of the README, tried end to end; docs/reliability.md lists every test."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import answers_of, ask_ledger, make_job, run_flow, wait_until
from sqlalchemy import text

from rowtide.ledger.ledger import Ledger, ledger_url

pytestmark = pytest.mark.usefixtures("prefect_server")

COMPANIES = str(Path("jobs/companies").resolve())
SAME = ("rows", "loaded", "quarantined", "reasons", "batches", "turns", "tool_calls", "cost_usd", "tiers")


def add_up(found: dict[str, Any]) -> bool:
    ended = ("loaded", "quarantined", "unchanged", "held")
    return found["rows"] == sum(found[name] for name in ended)


def test_no_row_is_lost(api: Any, tmp_path: Path) -> None:
    rows = b"id,message\nm1,an invoice\n,no key\nm1,the same key\nm2,\xff\xfe\nm3,a parcel,too wide\nm4,a parcel\n"
    found = run_flow(make_job(tmp_path / "job", rows=rows))
    assert (found["rows"], found["loaded"], found["quarantined"]) == (6, 2, 4)
    assert found["reasons"] == {"duplicate_key": 1, "missing_key": 1, "undecodable": 1, "wrong_width": 1}
    assert sorted(answers_of(tmp_path / "home")) == ["m1", "m4"]


def test_no_batch_is_paid_for_twice_when_the_reply_to_the_post_is_lost(api: Any, tmp_path: Path) -> None:
    api.world.drop_next_create_reply(os.environ["ANTHROPIC_API_KEY"])
    found = run_flow(make_job(tmp_path / "job", rows=50))
    assert (found["loaded"] + found["quarantined"], found["batches"]) == (50, 1 + extra_batches(tmp_path))
    assert billed_batches(api) == found["batches"]


def test_nothing_is_sent_for_a_row_that_an_earlier_run_settled(api: Any, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows="id,message\nm1,an invoice\nm2,a parcel [emulator:refuse]\nm3,a parcel\n")
    first = run_flow(job)
    again = run_flow(job)
    assert (first["loaded"], first["reasons"]) == (2, {"refused": 1})
    assert (again["unchanged"], again["quarantined_before"], again["turns"], again["batches"]) == (3, 1, 0, 0)
    assert add_up(again)


def test_changed_content_is_asked_again_and_stands_once_in_the_sink(api: Any, tmp_path: Path) -> None:
    run_flow(make_job(tmp_path / "job", rows=12))
    job = make_job(tmp_path / "job", rows="id,message\nm0,now the parcel is late\nm1,the parcel is late (1)\n")
    found = run_flow(job)
    assert (found["unchanged"], found["loaded"]) == (1, 1)
    assert answers_of(tmp_path / "home")["m0"]["topic"] == "delivery"
    assert len(answers_of(tmp_path / "home")) == 12


@pytest.fixture(scope="module")
def undisturbed(emulator_server: Any, prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a run of thirty companies comes to when nobody disturbs it."""
    home = tmp_path_factory.mktemp("calm")
    found = cli(home, prefect_server, emulator_server.url, "run", COMPANIES, "--limit", "30", "--lane", "batch")
    return found, answers_of(home, "results/companies")


@pytest.mark.slow
@pytest.mark.parametrize("batches", [0, 1, 2, 3])
def test_a_run_killed_at_any_moment_resumes_to_the_same_end(
    emulator_server: Any, prefect_server: str, tmp_path: Path, undisturbed: Any, batches: int
) -> None:
    url, home = emulator_server.url, tmp_path / "killed"
    process = start_cli(home, prefect_server, url, "run", COMPANIES, "--limit", "30", "--lane", "batch", "--json")
    wait_for_ledger(home, batches=batches, process=process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (only,) = json.loads(cli_text(home, prefect_server, url, "runs", "--json"))
    found = cli(home, prefect_server, url, "resume", only["run_id"])
    calm, answers = undisturbed
    assert add_up(found)
    assert {name: found[name] for name in SAME} == {name: calm[name] for name in SAME}
    assert found["batches"] == len(emulator_server.world.batches_of(f"key-{home}"))
    assert answers_of(home, "results/companies") == answers


def test_a_model_is_a_line_of_config(api: Any, tmp_path: Path) -> None:
    found = run_flow(make_job(tmp_path / "job", tiers=["opus"]))
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


def environment(home: Path, prefect_server: str, api_url: str) -> dict[str, str]:
    """An account of its own: a shared one would share its prompt cache, and the bills would differ."""
    claude = {"ANTHROPIC_API_KEY": f"key-{home}", "ANTHROPIC_BASE_URL": api_url}
    quiet = {"ROWTIDE_PAGE": "0", "ROWTIDE_PREFECT_PORT": "0"}  # a report's page takes seconds to draw
    return {**os.environ, **claude, **quiet, "ROWTIDE_HOME": str(home), "PREFECT_API_URL": prefect_server}


def start_cli(home: Path, prefect_server: str, api_url: str, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "cli", *words]
    return subprocess.Popen(
        command,
        env=environment(home, prefect_server, api_url),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def cli_text(home: Path, prefect_server: str, api_url: str, *words: str) -> str:
    process = start_cli(home, prefect_server, api_url, *words)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return said.splitlines()[-1]


def cli(home: Path, prefect_server: str, api_url: str, *words: str) -> dict[str, Any]:
    return json.loads(cli_text(home, prefect_server, api_url, *words, "--json"))


def wait_for_ledger(home: Path, *, batches: int, process: "subprocess.Popen[str]") -> None:
    """Return as soon as the ledger knows so many batches (or, for none, is there at all)."""

    def is_there() -> bool:
        if not (home / "ledger.db").exists():
            return False
        ((rows, known),) = ask_ledger(home, "SELECT (SELECT count(*) FROM row), (SELECT count(*) FROM batch)")
        return rows > 0 and known >= batches

    wait_until(lambda: process.poll() is not None or is_there())
