"""The worked examples of CONTRIBUTING.md: each is applied to a copy of the tree, and a small job runs by all four."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ANSWER, PROMPT
from outside import ROOT, Done, rowtide
from pyarrow import feather

from rowtide.sinks.columns import KEY

EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.diff"))
PRODUCT = ("blocks", "cli", "configuration", "emulator", "flows", "orchestration", "rowtide", "tasks", "webhooks")
ROWS = "".join(f'id=m{n} message="the invoice is wrong ({n})"\n' for n in range(3))

WRONG = "[\"said: copy it from the row, letter for letter: 'the row'\"]"
JUDGE = """
from pydantic import create_model
from rowtide.agent.answer_checks import judge_answer
from rowtide.job.job_spec import ChecksSpec
rules = ChecksSpec(copied=[{"field": "said", "column": "words"}]).rules
for said in ("the row", "another"):
    text = '{"said": "%s"}' % said
    model = create_model("Answer", said=(str, ...))
    asked = {"answer": model, "checks": [], "built_in": rules, "row": lambda: {"words": "the row"}, "outputs": list}
    print(judge_answer(text, **asked).problems)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product with all examples applied, one after the other."""
    to = tmp_path_factory.mktemp("copy")
    for each in PRODUCT:
        shutil.copytree(ROOT / each, to / each, ignore=shutil.ignore_patterns("__pycache__"))
    (to / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "test_architecture.py", to / "tests")
    for each in EXAMPLES:
        done = subprocess.run(["git", "apply", each], cwd=to, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{each.name} does not apply any more: {done.stderr}"
    return to


def run(copy: Path, folder: Path) -> Done:
    job = folder / "job"
    job.mkdir()
    (job / "rows.logfmt").write_text(ROWS)
    (job / "answer.py").write_text(ANSWER)
    (job / "prompt.md").write_text(PROMPT)
    spec = {
        "source": {"path": "rows.logfmt"},
        "key": "id",
        "tiers": ["haiku"],
        "lane": "aloud",
        "checks": {"corrections": 0, "copied": [{"field": "message", "column": "message"}]},
        "sink": {"kind": "feather", "path": "results"},
    }
    (job / "job.yaml").write_text(yaml.safe_dump(spec))
    environment = {"PYTHONPATH": str(copy), "ROWTIDE_HOME": str(folder / "home"), "ANTHROPIC_API_KEY": None}
    return rowtide("run", job, "--json", environment=environment, folder=copy)


def test_a_job_runs_by_a_source_a_lane_a_check_and_a_sink_that_the_examples_add(copy: Path, tmp_path: Path) -> None:
    done = run(copy, tmp_path)
    assert done.status == 0, done.err
    assert list(done.summary["lanes"]) == ["aloud"]
    (part,) = (tmp_path / "home").rglob("*.feather")
    table = feather.read_table(part)
    loaded = dict(zip(table[KEY].to_pylist(), table["message"].to_pylist(), strict=True))
    assert loaded == {key: f"the invoice is wrong ({key[1]})" for key in loaded}
    assert len(loaded) + done.summary["quarantined"] == 3


def test_the_check_that_an_example_adds_refuses_what_it_should(copy: Path) -> None:
    done = subprocess.run([sys.executable, "-c", JUDGE], cwd=copy, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["[]", WRONG], done.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=[each.stem for each in EXAMPLES])
def test_an_example_is_at_most_one_new_file_and_three_edited_ones(example: Path) -> None:
    text = example.read_text()
    files, new = len(re.findall(r"^diff --git", text, re.M)), len(re.findall(r"^new file mode", text, re.M))
    assert new <= 1
    assert files - new <= 3
