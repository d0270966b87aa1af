"""Help teaches: each command has its place, its examples work as they are printed, and TAB offers what is there."""

import shlex
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from conftest import make_job, run
from outside import rowtide

from cli.help_examples import EXAMPLES
from cli.main import COMMANDS, app

LINES = [line for examples in EXAMPLES.values() for line, _ in examples]
NAMED = {name for commands in COMMANDS.values() for name, *_ in commands} | {"quarantine"}


@pytest.mark.parametrize("line", LINES)
def test_an_example_is_a_command_line_that_is_understood(line: str) -> None:
    _, *words = takewhile(lambda word: word != "|", shlex.split(line))
    command, bound, *_ = app.parse_args(words, print_error=False, exit_on_error=False)
    assert callable(command)
    assert bound.arguments or words == ["quarantine", "list"]


def test_examples_are_of_commands_that_there_are_and_each_command_has_a_group() -> None:
    assert EXAMPLES.keys() <= NAMED
    done = rowtide("--help")
    assert [title for title in COMMANDS if f"─ {title} " not in done.out] == []
    assert [name for name in NAMED if f"│ {name} " not in done.out] == []


def test_help_shows_examples_and_who_runs_a_job_every_exit_status() -> None:
    shown = rowtide("resume", "--help").out
    assert "Examples:" in shown
    assert "143  terminated" in shown
    assert "143" not in rowtide("show", "--help").out


@pytest.mark.usefixtures("api")
def test_tab_offers_the_jobs_and_runs_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("ROWTIDE_HOME", str(home))
    run(make_job(tmp_path / "jobs" / "letters", rows=2), run_id="letters-1")
    here: dict[str, Any] = {"folder": tmp_path, "environment": {"ROWTIDE_HOME": str(home)}}
    assert "letters" in rowtide("__complete", "run", "", **here).out
    assert "letters-1\tbegun " in rowtide("__complete", "resume", "let", **here).out
    assert "letters-1" in rowtide("__complete", "results", "", **here).out
    nowhere: dict[str, Any] = {"folder": tmp_path / "home", "environment": {"ROWTIDE_HOME": str(tmp_path / "none")}}
    assert rowtide("__complete", "resume", "", **nowhere).out.strip("\x1fbegin\n") == ""
    assert not (tmp_path / "none").exists(), "looking makes no ledger"


def test_completion_is_installed_where_the_shell_looks(tmp_path: Path) -> None:
    done = rowtide("--install-completion", "--shell", "bash", environment={"HOME": str(tmp_path)})
    assert done.status == 0
    (script,) = (tmp_path / ".local").rglob("rowtide")
    assert str(script) in done.out
    assert "__complete" in script.read_text()
