"""A mistake is named with file, line, key and the nearest legal name, and nothing is sent."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ANSWER, PROMPT, make_job

from rowtide.errors import UserMistake
from rowtide.stages.preflight import plan_run


async def refusal(folder: Path, **changes: Any) -> str:
    make_job(folder, **changes)
    with pytest.raises(UserMistake) as caught:
        await plan_run(folder, None, os.environ)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teirs": ["haiku"]}, ["job.yaml:", "teirs", "did you mean 'tiers'"]),
        ({"limits": {"turn": 3}}, ["job.yaml:", "limits.turn", "did you mean 'turns'"]),
        ({"limits": {"turns": "many"}}, ["job.yaml:", "limits.turns", "many"]),
        ({"tiers": ["haikoo"]}, ["did you mean 'haiku'"]),
        ({"key": "ids"}, ["job.yaml", "key", "'ids' is not a column", "did you mean 'id'"]),
        ({"prompt": PROMPT.replace("{{ message }}", "{{ massage }}")}, ["prompt.md:7", "did you mean 'message'"]),
        ({"prompt": PROMPT.replace("{{ message }}", "{{ message ")}, ["prompt.md:7"]),
        ({"prompt": "{{ message }}\n---\nhello"}, ["prompt.md", "above the --- line"]),
        ({"source": {"path": "row.csv"}}, ["row.csv", "no such source", "did you mean 'rows.csv'"]),
        ({"rows": ""}, ["rows.csv", "empty"]),
        ({"answer": ANSWER.replace("class Answer", "class Answers")}, ["answer.py", "did you mean 'Answers'"]),
        ({"answer": "def ("}, ["answer.py:1"]),
        ({"answer": ANSWER.replace("message: str", "message: dict[str, str]")}, ["Answer.message", "list of objects"]),
        ({"gates": {"answers": "gates.yaml"}}, ["gates.yaml", "no such file"]),
        ({"checks": {"grounding": [{"field": "topics", "tool": "a.b"}]}}, ["checks.grounding.0", "'topic'"]),
        ({"tools": {"a": {"command": "no-such-program"}}}, ["tools.a", "did not start"]),
        ({"source": {"url": "${NO_SUCH_URL}", "query": "SELECT 1"}}, ["NO_SUCH_URL is not set"]),
    ],
)
async def test_a_mistake_in_a_job_is_named(tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    said = await refusal(tmp_path / "job", **changes)
    assert [word for word in words if word not in said] == [], said


def test_the_command_exits_2_before_anything_is_started(tmp_path: Path) -> None:
    make_job(tmp_path / "job", tiers=["haikoo"])
    command = [sys.executable, "-m", "cli", "run", str(tmp_path / "job"), "--json"]
    home = {"ROWTIDE_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, env={**os.environ, **home}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "did you mean 'haiku'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home").exists()
