"""A job is mended in the middle of a run: what was paid for is kept, and only what must be asked again is."""

import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from conftest import ANSWER, PROMPT, answers_of, ask_ledger, make_job, run

from cli.main import app
from rowtide.errors import UserMistake
from rowtide.ledger import ledger_leases
from rowtide.ledger.ledger import Ledger, ledger_url

CHECKED = (
    ANSWER
    + """

def check_message(answer, row):
    if row["id"] in ("m1", "m4", "m7"):
        return "this check is wrong"
    return None
"""
)
RUN = "r1"


@pytest.fixture
def home(emulator_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ROWTIDE_HOME of this test's own, and an account at the emulator; no Prefect server."""
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", f"key-{tmp_path.name}")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator_server.url)
    for name, value in {"SETTLE_SECONDS": "1", "PAGE": "0", "LEDGER_FROM_ENVIRONMENT": "1"}.items():
        monkeypatch.setenv(f"ROWTIDE_{name}", value)
    return tmp_path / "home"


class Halted(Exception):
    """This process worked until here."""


def go(job: Path, *, until: tuple[str, int] | None = None, budget: float | None = None) -> dict[str, Any]:
    """Take the run to its end, or until a stage is to begin for the n-th time: `Halted`."""
    begun: Counter[str] = Counter()

    def on_stage(name: str) -> None:
        begun[name] += 1
        if until == (name, begun[name]):
            raise Halted(name)

    return run(job, on_stage=on_stage, run_id=RUN, budget=budget, lane="batch")


def go_until(job: Path, stage: str, times: int = 1, *, budget: float | None = None) -> None:
    with pytest.raises(Halted):
        go(job, until=(stage, times), budget=budget)


def rowtide(*words: str) -> int:
    return app(words, exit_on_error=False, result_action="return_value") or 0


def billed_micro() -> int:
    """What the emulator billed this test's account."""
    account = {"api_key": os.environ["ANTHROPIC_API_KEY"]}
    found = httpx2.get(f"{os.environ['ANTHROPIC_BASE_URL']}/_emulator/ledger", params=account)
    return int(found.json()["account"]["cost_micro"])


def spent_micro(home: Path) -> int:
    return ask_ledger(home, "SELECT coalesce(sum(cost_micro), 0) FROM turn")[0][0]


MENDED = {"answer.py": ANSWER, "prompt.md": PROMPT}
ONE_BATCH = 0.03  # US dollars: what 20 rows can cost at worst, and not twice that


def a_job_with_mistakes(folder: Path, rows: int = 60) -> Path:
    """Its check is wrong of three rows, and its prompt has a slip that the emulator does not mind."""
    return make_job(
        folder,
        rows=rows,
        answer=CHECKED,
        prompt=PROMPT.replace("Sort the message.", "Sort the massage."),
        tiers=["haiku"],
        checks={"corrections": 0},
        limits={"batch_rows": 20, "enough_rows": 20},
    )


def mend(job: Path, *files: str) -> None:
    for name in files or MENDED:
        (job / name).write_text(MENDED[name])


@pytest.mark.parametrize(
    ("stage", "times"),
    [("wait", 1), ("follow_up", 1), ("validate", 1), ("submit", 2), ("follow_up", 2), ("load", 1), ("report", 1)],
)
def test_wherever_a_run_is_amended_it_ends_whole_and_nothing_is_paid_for_twice(
    home: Path, stage: str, times: int
) -> None:
    job = a_job_with_mistakes(home.parent / "job")
    go_until(job, stage, times, budget=ONE_BATCH)
    under_0 = {key for (key,) in ask_ledger(home, "SELECT row_key FROM row WHERE state IN ('accepted', 'loaded')")}
    mend(job)
    with pytest.raises(UserMistake, match=r"prompt.md, answer.py changed .* `rowtide amend r1` goes on"):
        go(job)
    asked = ask_ledger(home, "SELECT count(*) FROM turn")[0][0]
    assert rowtide("amend", RUN, "--why", "a slip, and a check that was wrong") == 0
    assert ask_ledger(home, "SELECT count(*) FROM turn")[0][0] == asked, "amend asks nothing"
    found = go(job)
    assert (found["loaded"], found["quarantined"]) == (60, 0)
    assert found["turns"] == 60, "the three rows whose check was wrong keep the answer that was paid for"
    assert spent_micro(home) == billed_micro()
    assert len(answers_of(home)) == 60
    versions = dict(ask_ledger(home, "SELECT row_key, version_no FROM row"))
    assert all(versions[key] == 0 for key in under_0), "what was accepted keeps its version"
    of_turns = ask_ledger(home, "SELECT DISTINCT r.version_no = t.version_no FROM row r JOIN turn t USING (row_no)")
    assert of_turns == [(True,)]
    fingerprints = "SELECT DISTINCT v.version_no, l.asking = v.asking FROM loaded l JOIN row r USING (row_no) "
    fingerprints += "JOIN version v ON v.run_no = r.run_no AND v.version_no = r.version_no"
    assert {bool(same) for _, same in ask_ledger(home, fingerprints)} == {True}
    (said,) = ask_ledger(home, "SELECT why, who IS NOT NULL FROM version WHERE version_no = 1")
    assert said == ("a slip, and a check that was wrong", 1)


def test_a_dry_run_says_each_number_and_does_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = a_job_with_mistakes(home.parent / "job")
    go_until(job, "submit", 2, budget=ONE_BATCH)
    mend(job)
    before = ask_ledger(home, "SELECT row_no, state, reason, version_no FROM row ORDER BY 1")
    assert rowtide("amend", RUN, "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        "run r1 would go on under version 1: prompt.md, answer.py",
        "this changes how rows are asked",
        "         22 accepted, loaded or unchanged: stay as they are",
        "         35 not asked yet: asked under version 1",
        "          3 quarantined, with a reply: judged again under version 1",
        "amend it with: rowtide amend r1",
    ]
    assert ask_ledger(home, "SELECT row_no, state, reason, version_no FROM row ORDER BY 1") == before
    assert rowtide("amend", RUN, "--dry-run", "--leave-quarantined") == 0
    assert "          3 quarantined as not_verified: stay in quarantine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("key", "message", "job.yaml: key"),
        ("source", {"path": "other.csv"}, "the source"),
        ("tiers", ["haiku", "sonnet"], "job.yaml: tiers"),
        ("checks", {"self_check": {"tier": "haiku"}}, "job.yaml: checks.self_check.tier"),
    ],
)
def test_what_a_run_stands_on_is_refused_by_name(home: Path, key: str, value: object, named: str) -> None:
    job = a_job_with_mistakes(home.parent / "job")
    (job / "rubric.md").write_text("Is it right?")
    (job / "other.csv").write_bytes((job / "rows.csv").read_bytes())
    go_until(job, "submit", 2, budget=ONE_BATCH)
    spec = yaml.safe_load((job / "job.yaml").read_text())
    (job / "job.yaml").write_text(yaml.safe_dump(spec | {key: value}))
    mend(job)
    with pytest.raises(UserMistake, match=rf"{named}.* changed since run r1 began"):
        rowtide("amend", RUN)
    assert ask_ledger(home, "SELECT count(*) FROM version") == [(1,)]


def test_a_run_that_a_process_works_on_is_refused_in_words(home: Path) -> None:
    job = a_job_with_mistakes(home.parent / "job")
    go_until(job, "submit", 2, budget=ONE_BATCH)
    mend(job)
    ledger = Ledger(ledger_url(None, home))
    with ledger.page() as tx:
        assert ledger_leases.take(tx, RUN, ledger_leases.holder("it"), now=datetime.now(UTC)) is None
    with pytest.raises(UserMistake, match="a process works on run r1 at this moment: stop it first"):
        rowtide("amend", RUN)
    ledger.close()


def test_nothing_changed_is_nothing_to_amend(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = a_job_with_mistakes(home.parent / "job")
    go_until(job, "submit", 2, budget=ONE_BATCH)
    (job / "job.yaml").write_text("# a comment\n" + (job / "job.yaml").read_text())
    assert rowtide("amend", RUN) == 0
    assert "nothing to amend" in capsys.readouterr().out
    assert ask_ledger(home, "SELECT count(*) FROM version") == [(1,)]
