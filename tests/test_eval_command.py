"""Two versions of a job on golden rows: what is asked, what is not asked again, and what comes of it."""

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest import PROMPT, ThisProcess, ask_ledger, make_job, run
from outside import rowtide

from flows.evaluate import evaluate
from rowtide.errors import NoPassingVerdict, RunStopped, UserMistake
from rowtide.evals.eval_words import as_json, as_junit, as_text
from rowtide.evals.outcome import EvalOutcome
from rowtide.ledger.ledger import Ledger, all_runs, ledger_url
from rowtide.ledger.read.evals import read_outcome
from rowtide.stages.evaluate.choose_arms import Candidate
from rowtide.stages.evaluate.write_arm import Changes
from rowtide.stages.orchestrator import orchestrated_by

TOPICS = ("billing", "delivery", "product")
WIDE: dict[str, Any] = {"evals": {"margins": {"right": 0.05, "harm": 0.05}, "dev_share": 0}}


def make_golden(folder: Path, rows: int, **changed: dict[str, Any]) -> None:
    """Golden rows for `make_job`'s first rows; `changed` are more keys of single ones."""
    lines = [
        {"key": f"m{n}", "answer": {"topic": TOPICS[n % 3]}, "by": "rule", **changed.get(f"m{n}", {})}
        for n in range(rows)
    ]
    (folder / "golden.jsonl").write_bytes(b"\n".join(orjson.dumps(line) for line in lines))


def eval_job(
    job: Path, home: Path, *, on_stage: Callable[[str], None] | None = None, again: bool = False, **asked: Any
) -> EvalOutcome:
    """An eval in this process."""
    part, budget = asked.pop("part", "confirm"), asked.pop("budget", None)
    candidate = Candidate(asked.pop("folder", None), Changes(**asked.pop("changes", {})), asked.pop("against", None))
    with orchestrated_by(ThisProcess(on_stage)):
        eval_id = asyncio.run(evaluate(str(job), candidate, part, budget, is_anew=again))
    return outcome_of(home, eval_id)


def outcome_of(home: Path, eval_id: str) -> EvalOutcome:
    ledger = Ledger(ledger_url(os.environ.get("ROWTIDE_LEDGER"), home))
    with ledger.view() as tx:
        found = read_outcome(tx, eval_id)
    ledger.close()
    return found


def asked_of(home: Path) -> int:
    """How many turns were paid for in evals."""
    (count,) = ask_ledger(
        home,
        "SELECT count(*) FROM turn t JOIN row r USING (row_no) JOIN run u USING (run_no) WHERE u.eval_id IS NOT NULL",
    )
    return count[0]


def test_a_version_is_measured_against_the_one_that_passed_last(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=200, **WIDE)
    make_golden(job, 200)
    first = eval_job(job, home)
    assert (first.verdict, first.use, first.looks[-1].rows) == ("not_worse", 0, 60)
    asked = asked_of(home)
    assert asked == 60, "a first version is asked once, though it stands on both sides"
    (job / "prompt.md").write_text(PROMPT.replace("Sort", "Sort with care"))
    second = eval_job(job, home)
    assert second.verdict in ("better", "not_worse", "undecided")
    assert second.changed == ("prompt.md",)
    assert second.use == 1
    assert asked_of(home) == asked + second.looks[-1].rows * 2 - 60, "the incumbent's first 60 answers were known"
    assert sum(row.incumbent.is_from_before for row in second.rows) == 60
    assert {row.change for row in second.rows} <= {"fixed", "broken", "same"}
    assert as_json(second)["passes"] == (second.verdict != "undecided")


def test_what_was_asked_and_what_has_not_changed_costs_nothing(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=120, **WIDE)
    make_golden(job, 120)
    first = eval_job(job, home)
    asked = asked_of(home)
    again = eval_job(job, home)
    assert (again.verdict, again.cost_micro, again.use) == ("not_worse", 0, 0)
    assert again.reasons == ("nothing that decides an answer differs",)
    assert eval_job(job, home, changes={"settings": ("description=another",)}).cost_micro == 0
    assert asked_of(home) == asked
    assert first.verdict == "not_worse"


def test_answers_of_ordinary_runs_stand_for_asking_again(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=120, **WIDE)
    make_golden(job, 120)
    run(job, run_id="nightly")
    found = eval_job(job, home, changes={"settings": ("limits.max_tokens=4000",)})
    assert all(row.incumbent.is_from_before for row in found.rows)
    assert asked_of(home) == found.looks[-1].rows, "only the candidate was asked"
    assert found.looks[-1].finding.right.counts.rows == found.looks[-1].rows


def test_a_worse_prompt_is_refused_and_says_which_rows_it_breaks(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=200, **WIDE)
    make_golden(job, 200)
    (tmp_path / "worse.md").write_text("Sort the message.\n---\nmessage: {{ message }}\n")
    found = eval_job(job, home, changes={"prompt": tmp_path / "worse.md"})
    assert found.verdict == "worse"
    assert len(found.looks) == 1, "it was plain after 60 rows"
    assert len(found.broken) > len(found.fixed)
    assert b"<failure" in as_junit(found)
    assert as_text(found)[0].startswith("worse")


def test_a_version_without_a_passing_verdict_does_not_run_where_one_is_required(api: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    job = make_job(tmp_path / "job", rows=120, evals={**WIDE["evals"], "required": True})
    make_golden(job, 120)
    with pytest.raises(NoPassingVerdict, match="has none: nothing was begun"):
        run(job, run_id="unmeasured")
    assert ask_ledger(home, "SELECT count(*) FROM run") == [(0,)]
    assert eval_job(job, home).verdict == "not_worse"
    assert run(job, run_id="measured")["loaded"] == 120
    (job / "prompt.md").write_text("Sort the message.\n---\nmessage: {{ message }}\n")
    assert eval_job(job, home).verdict == "worse"
    environment = {"ROWTIDE_HOME": str(home)}
    refused = rowtide("run", job, environment=environment)
    assert refused.status == 3
    assert "was found worse by eval-job" in refused.err
    assert rowtide("amend", "measured", "--why", "try", environment=environment).status == 3
    assert rowtide("eval", job, "--override", environment=environment).status == 2, "a reason is needed"
    assert rowtide("eval", job, "--override", "--why", "the answers were wrong", environment=environment).status == 0
    assert ask_ledger(home, "SELECT why FROM eval_override") == [("the answers were wrong",)]
    assert rowtide("run", job, "--limit", "3", environment=environment).status in (0, 5), "it may run now"


def test_a_purge_takes_the_text_of_evals_and_a_row_is_shown_as_its_run_has_it(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=120, **WIDE)
    make_golden(job, 120)
    run(job, run_id="nightly")
    found = eval_job(job, home, changes={"settings": ("limits.max_tokens=4000",)})
    shown = rowtide("show", "m1", environment={"ROWTIDE_HOME": str(home)})
    assert "nightly" in shown.out, "an eval's row is newer, and not what a person asks for"
    assert b"invoice is wrong" in b"".join(each for (each,) in ask_ledger(home, "SELECT content FROM eval_row"))
    assert rowtide("purge", "--job", "job", "--yes", environment={"ROWTIDE_HOME": str(home)}).status == 0
    files = [file for file in home.rglob("*") if file.is_file() and "results" not in file.parts]
    assert not [file for file in files if b"invoice is wrong" in file.read_bytes()]
    assert outcome_of(home, found.eval_id).verdict == found.verdict, "what was found stays"


class Killed(Exception):
    pass


@pytest.mark.parametrize("stages", [3, 9, 14, 20])
def test_a_killed_eval_goes_on_and_pays_nothing_twice(api: Any, tmp_path: Path, stages: int) -> None:
    job = make_job(tmp_path / "job", rows=130, **WIDE)
    make_golden(job, 130)
    changes = {"settings": ("limits.max_tokens=4000",)}
    called: list[str] = []

    def die(stage: str) -> None:
        called.append(stage)
        if len(called) == stages:
            raise Killed

    home = tmp_path / "home"
    with pytest.raises(Killed):
        eval_job(job, home, on_stage=die, changes=changes)
    found = eval_job(job, home, changes=changes)
    rows = found.looks[-1].rows
    assert asked_of(home) == 2 * rows
    assert ask_ledger(home, "SELECT count(*) FROM eval")[0][0] == 1
    assert found.verdict is not None


def test_a_run_knows_nothing_of_evals(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=60, **WIDE)
    make_golden(job, 60)
    eval_job(job, home)
    assert not list(home.glob("results/*")), "nothing was loaded"
    done = run(job, run_id="real")
    assert (done["loaded"], done["unchanged"]) == (60, 0)
    ledger = Ledger(ledger_url(None, home))
    with ledger.view() as tx:
        assert [each.run_id for each in all_runs(tx, limit=10)] == ["real"]
    ledger.close()


def test_an_eval_stops_at_its_budget_and_goes_on_with_a_larger_one(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=120, **WIDE)
    make_golden(job, 120)
    with pytest.raises(RunStopped, match="budget"):
        eval_job(job, home, budget=0.001)
    found = eval_job(job, home, budget=5)
    assert found.verdict == "not_worse"
    assert ask_ledger(home, "SELECT count(*) FROM eval")[0][0] == 1


def test_rows_that_both_would_be_asked_alike_are_not_asked_again(api: Any, tmp_path: Path) -> None:
    """A skill that goes to one group changes nothing for the others: they cannot differ."""
    rows = "id,message,kind\n" + "".join(f"m{n},the invoice is wrong ({n}),{'ab'[n % 10 == 0]}\n" for n in range(120))
    spec = {**WIDE, "skills": {"group_by": "kind"}}
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=rows, **spec)
    lines = [orjson.dumps({"key": f"m{n}", "answer": {"topic": "billing"}}) for n in range(120)]
    (job / "golden.jsonl").write_bytes(b"\n".join(lines))
    skill = tmp_path / "for-b"
    skill.mkdir()
    (skill / "SKILL.md").write_text("---\nname: for-b\ndescription: For rows of kind b\n---\nBe kind.\n")
    found = eval_job(job, home, changes={"skills": (skill,)})
    differ = [row for row in found.rows if not row.is_same_request]
    assert {row.group for row in differ} == {"b"}
    assert asked_of(home) == 2 * len(differ)
    assert found.verdict in ("not_worse", "undecided")


def test_a_pinned_row_must_come_out_right(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=120, **WIDE)
    make_golden(job, 120, m7={"pinned": True, "stratum": "failed", "answer": {"topic": "product"}})
    found = eval_job(job, home)
    assert found.verdict == "worse"
    assert "pinned row 'm7'" in found.reasons[0]


GOLDEN_OF_MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"key": "nobody", "answer": {"topic": "billing"}}, "golden.jsonl:121: no row of the source has the key 'nobody'"),
    ({"key": "m1", "answer": {"topic": "billing"}}, "golden.jsonl:121: the key 'm1' stands on line 2 too"),
    ({"key": "m120", "answer": {"topic": "weather"}}, "golden.jsonl:121: m120: topic: Input should be"),
    ({"key": "m120", "answer": {"topik": "billing"}}, "did you mean 'topic'"),
]


@pytest.mark.parametrize(("line", "words"), GOLDEN_OF_MISTAKES)
def test_a_wrong_golden_row_is_named_before_a_cent_is_spent(
    api: Any, tmp_path: Path, line: dict[str, Any], words: str
) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=121, **WIDE)
    make_golden(job, 120)
    with (job / "golden.jsonl").open("ab") as file:
        file.write(b"\n" + orjson.dumps(line))
    with pytest.raises(UserMistake) as raised:
        eval_job(job, home)
    assert words in str(raised.value)
    assert ask_ledger(home, "SELECT count(*) FROM run")[0][0] == 0
    assert not list((home / "evals").glob("*")), "its copies are gone"


MISTAKES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"evals": {"margins": {"right": 0.01}, "dev_share": 0}}, {}, "evals.margins.right: 120 golden rows can never"),
    ({"evals": {"margin": 1}}, {}, "did you mean 'margins'"),
    ({"evals": {"fields": {"topic": "exakt"}}}, {}, "did you mean 'exact'"),
    ({"evals": {"fields": {"topic": {"compare": "number", "absolut": 1}}}}, {}, "did you mean 'absolute'"),
    ({"evals": {"fields": {"topik": "exact"}}}, {}, "evals.fields.topik: the answer has no such field"),
    ({"evals": {"groups": {"by": "kind"}}}, {}, "'kind' is not a column of the source"),
    (WIDE, {"changes": {"settings": ("evals.level=0.5",)}}, "not the candidate's"),
    (WIDE, {"changes": {"settings": ("limits.turn=4",)}}, "did you mean 'turns'"),
    (WIDE, {"changes": {"settings": ("turns",)}}, "is not KEY=VALUE"),
    (WIDE, {"changes": {"tiers": ("haikoo",)}}, "did you mean 'haiku'"),
    (WIDE, {"changes": {"prompt": Path("no.md")}}, "no.md: --prompt: no such file"),
    (WIDE, {"changes": {"skills": (Path("no"),)}}, "a skill is a folder with a SKILL.md"),
    (WIDE, {"against": "no-such-branch"}, "neither a revision"),
    (WIDE, {"changes": {"tiers": ("opus",)}, "against": "main"}, "name no candidate beside it"),
]


@pytest.mark.parametrize(("spec", "asked", "words"), MISTAKES)
def test_a_mistake_is_named_before_a_cent_is_spent(
    api: Any, tmp_path: Path, spec: dict[str, Any], asked: dict[str, Any], words: str
) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=120, **spec)
    make_golden(job, 120)
    other = asked or {"changes": {"settings": ("limits.max_tokens=4000",)}}
    with pytest.raises(UserMistake) as raised:
        eval_job(job, home, **other)
    assert words in str(raised.value)
    assert not list((home / "evals").glob("*"))


NESTED = """
from pydantic import BaseModel


class Place(BaseModel):
    city: str


class Answer(BaseModel):
    topic: str
    place: Place
"""


def test_whatever_is_wrong_with_a_candidate_or_its_golden_rows_is_named_by_file_and_line(
    api: Any, tmp_path: Path
) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=120, **WIDE)
    make_golden(job, 120)
    skill = tmp_path / "told"
    skill.mkdir()
    (skill / "SKILL.md").write_text("---\nname: told\ndescription: What is told\n---\nOf m17, say product.\n")
    keyed = make_job(tmp_path / "keyed", rows=120, **{**WIDE, "key": "message"})
    columns = make_job(tmp_path / "columns", rows="id,message,more\nm0,the invoice,x\n", **WIDE)
    nested = make_job(tmp_path / "nested", rows=120, answer=NESTED, **WIDE)
    (nested / "golden.jsonl").write_text('{"key": "m0", "answer": {"topic": "x", "place": {"city": "Bonn"}}}\n')
    mistakes: list[tuple[Path, dict[str, Any], str]] = [
        (job, {"changes": {"skills": (skill,)}}, "told/SKILL.md:5: quotes the key of golden row 'm17'; take it out"),
        (job, {"folder": keyed}, "keyed/job.yaml:3: key: the candidate's key is 'message', and not 'id'"),
        (job, {"folder": columns}, "columns/job.yaml:1: source: the candidate's source has more besides"),
        (nested, {}, "nested/golden.jsonl:1: m0: place has no comparer: it is nested. Name one in job.yaml"),
    ]
    for folder, asked, words in mistakes:
        with pytest.raises(UserMistake) as raised:
            eval_job(folder, home, **asked)
        assert words in str(raised.value)
    assert ask_ledger(home, "SELECT count(*) FROM run") == [(0,)]


def test_a_golden_row_that_the_prompt_quotes_is_named(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=120, **WIDE)
    make_golden(job, 120)
    told = tmp_path / "told.md"
    told.write_text(PROMPT.replace("\n---", "\nThe answer to m17 is product.\n---"))
    with pytest.raises(UserMistake, match="told.md:6: quotes the key of golden row 'm17'"):
        eval_job(job, home, changes={"prompt": told})


def test_a_candidate_must_have_the_same_columns(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=120, **WIDE)
    make_golden(job, 120)
    other = make_job(tmp_path / "other", rows="id,message,more\nm0,the invoice,x\n", **WIDE)
    with pytest.raises(UserMistake, match="the candidate's source has more besides"):
        eval_job(job, home, folder=other)


def test_the_job_is_compared_with_a_revision_of_git(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=120, **WIDE)
    make_golden(job, 120)
    git = ["git", "-C", str(job), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    (job / "prompt.md").write_text(PROMPT.replace("Sort", "Please sort"))
    found = eval_job(job, home, against="main")
    assert found.changed == ("prompt.md",)
    assert "at main" in found.incumbent.label


def test_a_copy_holds_what_a_version_is_made_of_and_no_data(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=120, **WIDE)
    make_golden(job, 120)
    (job / "tables").mkdir()
    (job / "tables" / "prices.csv").write_text("a,b\n")
    git = ["git", "-C", str(job), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    (job / "prompt.md").write_text(PROMPT.replace("Sort", "Please sort"))
    (job / "tables" / "prices.csv").write_text("a,c\n")
    found = eval_job(job, home, against="main")
    copied = {
        (arm.name, str(file.relative_to(arm / "jobs" / "job")))
        for arm in ((home / "evals" / found.eval_id / name) for name in ("candidate", "incumbent"))
        for file in (arm / "jobs" / "job").rglob("*")
        if file.is_file() and not file.is_symlink() and "__pycache__" not in file.parts
    }
    words = {(arm, name) for arm in ("candidate", "incumbent") for name in ("answer.py", "job.yaml", "prompt.md")}
    assert copied == words | {("incumbent", "tables/prices.csv")}, "only data that has changed since is as it was then"
