"""Two fingerprints: what decides how a row is asked, and what decides how its answer is judged."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import make_job

from rowtide.job.job_folder import load_job
from rowtide.job.versions import FIXED, name_changes, version_from_record

ANSWER = '''from typing import Literal

from pydantic import BaseModel, Field


class Answer(BaseModel):
    """What a message is about."""

    topic: Literal["billing", "delivery", "other"]
    message: str = Field(description="word for word")


def check_topic(answer, row):
    return None
'''
Edit = Callable[[Path], object]


def in_file(name: str, old: str, new: str) -> Edit:
    def edit(job: Path) -> None:
        text = (job / name).read_text()
        assert old in text
        (job / name).write_text(text.replace(old, new))

    return edit


def in_spec(**keys: object) -> Edit:
    def edit(job: Path) -> None:
        spec = yaml.safe_load((job / "job.yaml").read_text())
        (job / "job.yaml").write_text(yaml.safe_dump(spec | keys, sort_keys=False))

    return edit


NEITHER: dict[str, Edit] = {
    "a comment in job.yaml": lambda job: (job / "job.yaml").write_text(
        "# mind this\n" + (job / "job.yaml").read_text()
    ),
    "the order of keys": lambda job: (job / "job.yaml").write_text(
        yaml.safe_dump(yaml.safe_load((job / "job.yaml").read_text()), sort_keys=True)
    ),
    "its description": in_spec(description="another"),
    "its sink": in_spec(sink={"kind": "jsonl", "path": "elsewhere"}),
    "its source": in_spec(source={"path": "rows.csv", "kind": "csv"}),
    "its lane": in_spec(lane="live"),
    "a budget": in_spec(limits={"budget_usd": 3, "day_usd": 9, "patience_seconds": 1, "bounces": 1, "batch_rows": 7}),
    "where rows start": in_spec(start=[{"when": "id = 'm1'", "tier": "sonnet"}]),
    "its objectives": in_spec(slo={"coverage": 0.9}),
    "a file that nobody names": lambda job: (job / "notes.md").write_text("so"),
    "how a server is reached": in_spec(tools={"shop": {"stub": "stub.yaml", "timeout_seconds": 9, "concurrency": 2}}),
}
ASKED: dict[str, Edit] = {
    "the prompt's shared part": in_file("prompt.md", "---", "Be brief.\n---"),
    "a row's message": lambda job: (job / "prompt.md").write_text((job / "prompt.md").read_text() + " Please."),
    "the tiers": in_spec(tiers=["sonnet"]),
    "the key": in_spec(key=["id", "message"]),
    "a tool's program": lambda job: (job / "stub.yaml").write_text("tools: []"),
    "which tools are offered": in_spec(tools={"shop": {"stub": "stub.yaml", "tools": ["find"]}}),
    "a skill": lambda job: (job / "skills/tone/SKILL.md").write_text("---\nname: tone\ndescription: d\n---\nBe kind."),
    "the rubric": lambda job: (job / "rubric.md").write_text("Is {{ claimed.topic }} right?"),
    "who looks again": in_spec(checks={"self_check": {"tier": "haiku"}}),
}
JUDGED: dict[str, Edit] = {
    "a check": in_file("answer.py", "return None", "return 'no'"),
    "a comment in answer.py": in_file("answer.py", "def check_topic", "# mind this\ndef check_topic"),
    "a gate over answers": lambda job: (job / "answers.yaml").write_text("expectations: [] # fewer"),
    "how often it is corrected": in_spec(checks={"corrections": 5, "self_check": {"tier": "sonnet"}}),
    "how many turns it may take": in_spec(limits={"turns": 3}),
    "grounding": in_spec(
        checks={"self_check": {"tier": "sonnet"}, "grounding": [{"field": "topic", "tool": "shop.find"}]}
    ),
}
BOTH: dict[str, Edit] = {
    "a field's description": in_file("answer.py", "word for word", "as it stands"),
    "the model's docstring": in_file("answer.py", "What a message is about.", "Its topic."),
    "the order of fields": in_file(
        "answer.py",
        '    topic: Literal["billing", "delivery", "other"]\n    message: str = Field(description="word for word")\n',
        '    message: str = Field(description="word for word")\n    topic: Literal["billing", "delivery", "other"]\n',
    ),
    "a value more": in_file("answer.py", '"other"', '"other", "praise"'),
}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    (folder / "skills/tone").mkdir(parents=True)
    (folder / "skills/tone/SKILL.md").write_text("---\nname: tone\ndescription: d\n---\nBe calm.")
    (folder / "rubric.md").write_text("Is it right?")
    (folder / "stub.yaml").write_text("tools: [] # none yet")
    (folder / "answers.yaml").write_text("expectations: []")
    return make_job(
        folder,
        answer=ANSWER,
        tools={"shop": {"stub": "stub.yaml"}},
        gates={"answers": "answers.yaml"},
        checks={"self_check": {"tier": "sonnet"}},
        tiers=["haiku", "sonnet"],
    )


@pytest.mark.parametrize(
    ("edit", "asks", "judges"),
    [
        pytest.param(edit, asks, judges, id=name)
        for table, asks, judges in ((NEITHER, 0, 0), (ASKED, 1, 0), (JUDGED, 0, 1), (BOTH, 1, 1))
        for name, edit in table.items()
    ],
)
def test_a_change_is_of_what_is_asked_or_of_what_is_judged_or_of_neither(
    job: Path, edit: Edit, asks: int, judges: int
) -> None:
    before = load_job(job).version
    edit(job)
    now = load_job(job).version
    assert (before.asking != now.asking, before.judging != now.judging) == (bool(asks), bool(judges))
    assert bool(name_changes(before, now)) == bool(asks or judges), "what changed is named"


def test_fingerprints_are_alike_in_every_process(job: Path) -> None:
    tell = "import sys; from pathlib import Path; from rowtide.job.job_folder import load_job; "
    tell += "v = load_job(Path(sys.argv[1])).version; print(v.asking, v.judging, v.record())"
    said = {
        subprocess.run(
            [sys.executable, "-c", tell, str(job)], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1


def test_what_changed_is_named_by_file_and_key(job: Path) -> None:
    before = load_job(job).version
    in_spec(limits={"turns": 3}, key=["id", "message"])(job)
    in_file("prompt.md", "---", "Be brief.\n---")(job)
    named = ["job.yaml: key", "prompt.md", "job.yaml: limits.turns"]
    assert name_changes(version_from_record(before.record()), load_job(job).version) == named
    assert "job.yaml: key" in FIXED
