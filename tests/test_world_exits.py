"""How `rowtide` ends: a status for each way, the same everywhere; nobody is shown a traceback; a run id is no path."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import make_job, run
from outside import rowtide
from pydantic import TypeAdapter, ValidationError
from test_world_account import Go, api, emulator, go, of_all  # noqa: F401 # fixtures

from cli.exits import MEANS, TABLE, Exit, exit_status_of, unexpected_error_text
from rowtide.errors import UserMistake
from rowtide.job.run_id import RunId, check_run_id
from rowtide.ledger import ledger as ledgers
from rowtide.ledger.ledger import Ledger, ledger_url
from rowtide.report.summary_text import with_min_loaded
from rowtide.stages.another_round import count_undecided_rows
from rowtide.stages.run_context import open_run

ROOT = Path(__file__).parent.parent
FOUND: dict[str, Any] = {
    "run_id": "r", "rows": 10, "loaded": 10, "unchanged": 0, "quarantined_before": 0, "stopped": None, "held": 0,
    "gate_approvals": {},
}  # fmt: skip
ENDS: list[tuple[dict[str, Any], float | None, Exit]] = [
    ({}, None, Exit.DONE),
    ({"loaded": 0}, None, Exit.TOO_FEW),
    ({"loaded": 0, "unchanged": 10}, None, Exit.DONE),
    ({"loaded": 0, "unchanged": 10, "quarantined_before": 10}, None, Exit.TOO_FEW),
    ({"loaded": 0, "rows": 0}, None, Exit.DONE),
    ({"loaded": 0, "rows": 0}, 5, Exit.TOO_FEW),
    ({"loaded": 8}, 0.8, Exit.DONE),
    ({"loaded": 7}, 0.8, Exit.TOO_FEW),
    ({"loaded": 7, "unchanged": 1}, 0.8, Exit.DONE),
    ({"loaded": 9}, 10, Exit.TOO_FEW),
    ({"loaded": 0, "held": 10}, None, Exit.HELD),
    ({"loaded": 0, "gate_approvals": {"answers": ["no"]}}, None, Exit.HELD),
    ({"loaded": 0, "stopped": "budget"}, None, Exit.BUDGET),
    ({"loaded": 0, "stopped": "day_budget"}, 0.5, Exit.BUDGET),
    ({"loaded": 0, "stopped": "refused"}, None, Exit.STOPPED),
    ({"loaded": 0, "stopped": "stuck"}, None, Exit.STOPPED),
]


@pytest.mark.parametrize(("changes", "min_loaded", "status"), ENDS)
def test_each_way_a_run_ends_has_its_status(changes: dict[str, Any], min_loaded: float | None, status: Exit) -> None:
    assert exit_status_of(with_min_loaded({**FOUND, **changes}, min_loaded)) is status


def test_help_and_documents_have_the_same_table() -> None:
    said = rowtide("--help").out
    of_run = rowtide("run", "--help").out
    document = (ROOT / "docs/operate.md").read_text()
    for status, words in MEANS.items():
        for text in (said, of_run, TABLE):
            assert " ".join(f"{status.value} {words}".split()) in " ".join(text.split())
        assert f"| {status.value} | {words} |" in document


def test_a_run_that_loads_nothing_says_so_in_its_summary_and_a_job_can_ask_for_more(
    go: Go,  # noqa: F811 # a fixture
    api: Any,  # noqa: F811 # a fixture
    tmp_path: Path,
) -> None:
    job = make_job(tmp_path / "job", rows=4, limits={"min_loaded": 0.9})
    api.world.faults.load([of_all("prompt is too long: 215000 tokens > 200000 maximum")])
    found = go(job)
    assert (found["loaded"], found["min_loaded"], found["too_few_loaded"]) == (0, 0.9, True)
    assert exit_status_of(found) is Exit.TOO_FEW


def test_an_error_nobody_foresaw_is_one_sentence_and_its_traceback_a_file(tmp_path: Path) -> None:
    try:
        {}["gone"]
    except KeyError as error:
        words = unexpected_error_text(error, tmp_path, "run-1", now=datetime(2026, 11, 27, tzinfo=UTC))
    (file,) = (tmp_path / "errors").iterdir()
    assert "Traceback" in file.read_text()
    assert "\n" not in words
    for part in ("KeyError", "rowtide resume run-1", str(file)):
        assert part in words


def test_an_error_nobody_foresaw_is_told_where_no_file_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = unexpected_error_text(ValueError("odd"), tmp_path / "file", None, now=datetime(2026, 11, 27, tzinfo=UTC))
    assert "ValueError: odd" in words
    assert "could not be written" in words


PATHS = [
    "..",
    ".",
    "",
    "/etc/passwd",
    "../../x",
    "a/b",
    "a\\b",
    "a\0b",
    "...",
    "a\n",
    "x" * 201,
    "é" * 101,
    "a/../../b",
]


@pytest.mark.parametrize("run_id", PATHS)
def test_a_run_id_that_could_be_a_path_is_refused_wherever_it_comes_in(run_id: str, tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="a run cannot be called"):
        check_run_id(run_id)
    with pytest.raises(ValidationError):
        TypeAdapter(RunId).validate_python(run_id)


@pytest.mark.parametrize("name", ["companies", "my job", "bücher", ".hidden", "a..b"])
def test_a_run_of_any_job_can_be_called_after_its_folder(name: str) -> None:
    assert check_run_id(f"{name}-1127-200000-ab12")


def test_a_run_called_dot_dot_leaves_the_ledger_where_it_is(
    go: Go,  # noqa: F811 # a fixture
    tmp_path: Path,
) -> None:
    job = make_job(tmp_path / "job", rows=2)
    assert go(job)["loaded"] == 2
    before = sorted(tmp_path.rglob("*.db"))
    with pytest.raises(UserMistake, match="a run cannot be called"):
        run(job, run_id="..")
    assert sorted(tmp_path.rglob("*.db")) == before


def test_a_batch_that_is_not_there_for_a_while_is_not_lost_while_the_list_shows_it(
    go: Go,  # noqa: F811 # a fixture
    api: Any,  # noqa: F811 # a fixture
    tmp_path: Path,
) -> None:
    job = make_job(tmp_path / "job", rows=3)
    api.world.faults.load([{"call": "retrieve", "first": 7, "do": {"status": 404}}])
    found = go(job)
    assert (found["loaded"], found["held"], found["batches"]) == (3, 0, 1)


def test_rounds_that_change_nothing_end_the_run_with_what_is_left(
    go: Go,  # noqa: F811 # a fixture
    api: Any,  # noqa: F811 # a fixture
    tmp_path: Path,
) -> None:
    job = make_job(tmp_path / "job", rows=4)
    api.world.faults.load([of_all("This organization has been disabled.")])
    assert go(job)["stopped"] == "refused"
    ledger = Ledger(ledger_url(None, tmp_path / "home"))
    with ledger.page() as tx:
        ledgers.continue_run(tx, "run", None)
    context = open_run(ledger, tmp_path / "home", "run", os.environ)
    assert [count_undecided_rows(context) for _ in range(3)] == [4, 4, 0]
    with ledger.view() as tx:
        record = ledgers.find_run(tx, "run")
    ledger.close()
    assert (record.stopped, record.stop_detail) == ("stuck", "3 rounds changed nothing; rows left: 4 ready")
    api.world.faults.clear()
    assert go(job)["loaded"] == 4
