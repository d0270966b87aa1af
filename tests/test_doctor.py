"""`rowtide doctor` looks at everything that a run needs, one thing after another, and says of each what to do."""

import os
import socket
from pathlib import Path
from typing import Any

import orjson
from conftest import make_job, run
from outside import ROOT, rowtide

BROKEN = """
tools:
  dead: {command: python3, args: [-c, "raise SystemExit(3)"]}
"""


def examined(*words: str | Path, **how: Any) -> tuple[int, dict[str, dict[str, str]]]:
    done = rowtide("doctor", *words, "--json", **how)
    return done.status, {each["subject"]: each for each in orjson.loads(done.out)}


def test_all_is_well_with_the_demos_job_without_a_key(tmp_path: Path) -> None:
    environment = {"ROWTIDE_HOME": str(tmp_path / "home"), "ANTHROPIC_API_KEY": None}
    status, found = examined("companies", environment=environment)
    assert status == 0
    assert {each["verdict"] for each in found.values()} == {"ok"}
    assert {"API", "clock", "disk", "source", "model haiku", "tools.register", "gates", "sink"} <= found.keys()
    assert not (tmp_path / "home" / "ledger.db").exists(), "looking makes no ledger"


def test_an_api_that_is_not_there_fails_alone(tmp_path: Path) -> None:
    with socket.socket() as probe:  # a port that nobody listens on
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        environment = {"ROWTIDE_HOME": str(tmp_path), "ANTHROPIC_API_KEY": "sk-secret-12345", "ANTHROPIC_BASE_URL": url}
        status, found = examined("companies", environment=environment)
    assert status == 2
    failed = {name for name, each in found.items() if each["verdict"] == "failed"}
    assert failed == {"API", "model haiku", "model sonnet", "model opus"}
    assert "sk-secret" not in str(found)


def test_one_broken_part_of_a_job_hides_no_other(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    file = job / "job.yaml"
    file.write_text(file.read_text() + BROKEN)
    status, found = examined(job, environment={"ROWTIDE_HOME": str(tmp_path / "home"), "ANTHROPIC_API_KEY": None})
    assert status == 2
    assert found["tools.dead"]["verdict"] == "failed"
    assert {found[name]["verdict"] for name in ("job", "source", "gates", "sink")} == {"ok"}


def test_a_job_that_cannot_be_read_is_named_with_file_line_and_key(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    file = job / "job.yaml"
    file.write_text(file.read_text() + "\nprompd: x\n")
    status, found = examined(job, environment={"ROWTIDE_HOME": str(tmp_path / "home"), "ANTHROPIC_API_KEY": None})
    assert status == 2
    assert f"{file}:" in found["job"]["detail"]
    assert "did you mean 'prompt'" in found["job"]["detail"]


def test_a_ledger_that_others_may_read_and_a_run_that_stands_still_are_warnings(api: Any, tmp_path: Path) -> None:
    job = make_job(tmp_path)
    run(job, run_id="r1")
    home = Path(os.environ["ROWTIDE_HOME"])
    (home / "ledger.db").chmod(0o644)
    status, found = examined(job)
    assert status == 0, "warnings are no failure"
    assert found["ledger file"]["verdict"] == "warning"
    assert found["ledger file"]["advice"] == f"chmod 600 {home / 'ledger.db'}"
    assert found["ledger"]["verdict"] == "ok"
    assert "1 runs" in found["ledger"]["detail"]


def test_a_person_reads_each_finding_with_what_to_do(tmp_path: Path) -> None:
    done = rowtide("doctor", "companies", environment={"ROWTIDE_HOME": str(tmp_path), "ANTHROPIC_API_KEY": None})
    assert done.status == 0
    assert "ok       API: the emulator takes the key" in done.out
    assert "things looked at: 0 failed" in done.out
    assert "next: rowtide plan companies" in done.out
    assert ROOT.name not in done.err
