"""What somebody who is called at three in the morning finds: whom it concerns, what to do, and what it is about."""

import json
import logging
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from conftest import make_job, run
from outside import rowtide
from prefect.settings import PREFECT_LOGGING_EXTRA_LOGGERS, temporary_settings

from rowtide.errors import UserMistake
from rowtide.job.job_file import read_spec
from rowtide.job.job_folder import check_runbook, load_job
from tasks.observe import OURS, observe

CONTACT = {"owner": "data-team@example.com", "runbook": "https://wiki.example.com/companies?at=night"}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("owner", "", "one line of text"),
        ("owner", " ada", "one line of text"),
        ("owner", "ada\nbob", "one line of text"),
        ("owner", "a\u202eda", "one line of text"),
        ("owner", "x" * 201, "one line of text"),
        ("owner", ["ada"], "valid string"),
        ("owner", 7, "valid string"),
        ("runbook", "ftp://wiki.example.com/x", "a URL of the web"),
        ("runbook", "https://", "a URL of the web"),
        ("runbook", "https://ada:secret@wiki.example.com/x", "a login does not belong here"),
        ("runbook", "/etc/passwd", "in the job's folder"),
        ("runbook", "../other/runbook.md", "in the job's folder"),
        ("runbook", "https://[wiki", "Invalid IPv6 URL"),
    ],
)
def test_an_owner_is_a_line_and_a_runbook_a_place(tmp_path: Path, key: str, value: Any, said: str) -> None:
    folder = make_job(tmp_path / "job", **{key: value})
    with pytest.raises(UserMistake, match=said) as raised:
        read_spec(folder)
    assert (raised.value.key, raised.value.line is not None) == (key, True)


def test_a_runbook_that_is_no_url_is_a_file_of_the_job(tmp_path: Path) -> None:
    folder = make_job(tmp_path / "job", runbook="docs/runbook.md")
    with pytest.raises(UserMistake, match=r"no file 'docs/runbook.md' in the job's folder"):
        check_runbook(load_job(folder))
    (folder / "docs").mkdir()
    (folder / "docs" / "runbook.md").symlink_to("/etc/hostname")
    with pytest.raises(UserMistake, match="no file"):
        check_runbook(load_job(folder))
    (folder / "docs" / "runbook.md").unlink()
    (folder / "docs" / "runbook.md").write_text("# What to do")
    check_runbook(load_job(folder))


def test_neither_changes_a_version(tmp_path: Path) -> None:
    before = load_job(make_job(tmp_path / "job")).version
    after = load_job(make_job(tmp_path / "job", **CONTACT)).version
    assert (before.asking, before.judging) == (after.asking, after.judging)


def test_both_stand_wherever_a_run_is_told_of_as_the_job_says_now(api: Any, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows=2, tiers=["opus"], **CONTACT)
    found = run(job, run_id="r1")
    assert (found["owner"], found["runbook"]) == (CONTACT["owner"], CONTACT["runbook"])
    on_disk = json.loads((tmp_path / "home" / "reports" / "r1.json").read_bytes())
    assert (on_disk["owner"], on_disk["runbook"]) == (CONTACT["owner"], CONTACT["runbook"])
    (listed,) = json.loads(rowtide("runs", "--json").out)
    assert (listed["owner"], listed["runbook"]) == (CONTACT["owner"], CONTACT["runbook"])
    assert "data-team@example.com · runbook: https://wiki" in rowtide("show", "m0").out
    (job / "runbook.md").write_text("# What to do")
    make_job(job, rows=2, tiers=["opus"], owner="night-shift", runbook="runbook.md")
    gone_on = run(job, run_id="r1")
    assert (gone_on["owner"], gone_on["runbook"]) == ("night-shift", str(job / "runbook.md"))


def test_slo_exits_0_and_says_so_where_nothing_is_promised_or_has_run(api: Any, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", rows=2, tiers=["opus"])
    for words, said in ((["slo"], "nothing has run here yet"), (["slo", job], "nothing has run here yet")):
        done = rowtide(*words)
        assert (done.status, said in done.err) == (0, True), done.err
    run(job, run_id="r1")
    done = rowtide("slo", job, "--json")
    assert (done.status, json.loads(done.out)) == (0, {})
    assert "nothing is promised of job" in done.err
    assert rowtide("slo", tmp_path / "nowhere").status == 2


@pytest.fixture
def levels() -> Generator[None]:
    before = {name: logging.getLogger(name).level for name in OURS}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_what_prefect_is_to_take_to_a_runs_page_is_let_through(levels: None) -> None:
    """Prefect gives an extra logger a handler and no level: it inherits the root's WARNING."""
    for name in OURS:
        logging.getLogger(name).setLevel(logging.NOTSET)
    observe()
    assert not logging.getLogger("rowtide").isEnabledFor(logging.INFO)  # in a terminal, lines are for trouble

    with temporary_settings({PREFECT_LOGGING_EXTRA_LOGGERS: "rowtide,tasks,blocks"}):
        observe()
    assert all(logging.getLogger(name).isEnabledFor(logging.INFO) for name in ("rowtide", "tasks", "blocks"))
    assert not logging.getLogger("duckdb").isEnabledFor(logging.INFO)
