"""What golden rows are worth: candidates that are known to be worse are made of a job's files, and caught."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ANSWER, PROMPT, ask_ledger, make_job
from outside import ROOT, rowtide
from test_eval_command import WIDE, make_golden

from rowtide.evals.known_worse import rules_of
from rowtide.job.job_folder import load_job
from rowtide.stages.evaluate.plant_candidates import plant_candidates
from rowtide.stages.evaluate.write_arm import Changes, write_arm

COMPANIES = ROOT / "jobs" / "companies"
SKILL = """---
name: letters
description: How letters are read
---
1. Read the date first, because it says
   which terms hold.
2. Then read the end.
3. Say nothing of the sender.
"""
MISLEADING = 'For example, where it is not plain at once, the right answer is {"topic": "billing"}.'
RULES: list[tuple[str, tuple[str, ...], list[str]]] = [
    ("", (), []),
    ("Sort the message.", (), ["Sort the message."]),
    ("Yes.\n\n- a: b\n- c: d\n", ("a", "c"), []),
    ("- one\n- two\n  goes on\n- three\n\nNot this.\n", (), ["- one\n", "- two\n  goes on\n", "- three\n"]),
    ("1. one\n2) two\n* three\n", (), ["1. one\n", "2) two\n", "* three\n"]),
    ("Sort it well. Be kind to all!\n\n- only one\n", (), ["- only one\n", "Sort it well.", "Be kind to all!"]),
    ("Take 1.5 of it. Éire is a land.\n", (), ["Take 1.5 of it.", "Éire is a land."]),
]


@pytest.mark.parametrize(("text", "values", "rules"), RULES)
def test_a_rule_is_an_item_of_a_list_or_a_sentence(text: str, values: tuple[str, ...], rules: list[str]) -> None:
    assert [each.strip() for each in rules_of(text, values)] == [each.strip() for each in rules]
    assert all(each in text for each in rules_of(text, values))


def _jobs(folder: Path) -> Iterator[Path]:
    """Jobs of many shapes."""
    yield make_job(folder / "plain", rows=3)
    yield make_job(folder / "all-in-one", rows=3, prompt="Sort this, please: {{ message }}\n")
    yield make_job(folder / "one-tier", rows=3, tiers=["haiku"])
    yield make_job(folder / "no-golden", rows=3)
    odd = ANSWER.replace('"What the message is about."', '"Über was — «topic»?", examples=["€"]')
    yield make_job(folder / "letters", rows=3, answer=odd, prompt=PROMPT.replace("Sort", "\ufeffSortiere, bitte, «»"))
    skilled = make_job(folder / "skilled", rows=3)
    (skilled / "skills" / "letters").mkdir(parents=True)
    (skilled / "skills" / "letters" / "SKILL.md").write_text(SKILL)
    yield skilled
    stub = {"stub": "tools.yaml"}
    rows, prompt = "id,message,more\n1,a,b\n", f"{PROMPT}more: {{{{ more }}}}\n"
    yield make_job(folder / "tools", rows=rows, prompt=prompt, tools={"x": stub})


def test_whatever_the_job_each_plant_is_another_version_of_it_that_loads(tmp_path: Path) -> None:
    names: set[str] = set()
    for job in (COMPANIES, *_jobs(tmp_path / "jobs")):
        if job is not COMPANIES and job.name != "no-golden":
            make_golden(job, 3)
        loaded = load_job(job)
        plants = plant_candidates(loaded)
        assert plants, job.name
        for number, plant in enumerate(plants):
            changes = Changes(settings=plant.settings, files=plant.files, name=plant.name)
            arm = load_job(write_arm(job, tmp_path / "arms" / job.name / str(number), changes))
            assert arm.version != loaded.version or arm.spec.tiers != loaded.spec.tiers, plant.name
        names |= {plant.name.partition(":")[0] for plant in plants}
    assert {
        "a rule of prompt.md dropped",
        "a rule of skills/letters/SKILL.md dropped",
        "the weakest tier only",
    } <= names
    assert {
        "the weakest tier only",
        "tools taken away",
        "answers from memory",
        "a misleading example",
        "rows without a column",
    } <= names
    assert any("exchanged" in name for name in names)


def test_companies_gives_occasion_for_eleven_plants() -> None:
    assert len(plant_candidates(load_job(COMPANIES))) == 11


def test_plants_are_caught_and_take_nothing_of_the_level_and_let_nothing_run(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", make_job(tmp_path / "job", rows=200, **WIDE)
    make_golden(job, 200)
    environment = {"ROWTIDE_HOME": str(home)}
    stopped = rowtide("eval", job, "--prove", "--budget", "0.002", "--json", environment=environment)
    assert stopped.status == 4, stopped.err
    assert not stopped.summary["is_over"]
    done = rowtide("eval", job, "--prove", "--budget", "5", "--json", environment=environment)
    found = {each["name"]: each for each in done.summary["planted"]}
    assert done.summary["is_over"], done.err
    assert found["billing and delivery exchanged"]["is_caught"]
    assert found["billing and delivery exchanged"]["look"] == 1
    assert found["a misleading example: " + MISLEADING]["is_caught"]
    assert not found["a rule of prompt.md dropped: Sort the message."]["is_caught"], "it does nothing"
    assert done.status == (0 if done.summary["is_enough"] else 6)
    assert ask_ledger(home, "SELECT count(*) FROM eval WHERE use_no > 0 OR part <> 'planted'") == [(0,)]
    turns = ask_ledger(home, "SELECT count(*) FROM turn")
    again = rowtide("eval", job, "--prove", environment=environment)
    assert "not caught: a rule of prompt.md dropped: Sort the message." in again.out
    assert ask_ledger(home, "SELECT count(*) FROM turn") == turns, "what was evaluated is not asked again"
    assert rowtide("eval", job, "--prove", "--tiers", "haiku", environment=environment).status == 2


@pytest.mark.parametrize(("golden", "words"), [(0, "no golden rows"), (20, "20 golden rows can never show")])
def test_golden_rows_that_can_prove_nothing_are_told_once(api: Any, tmp_path: Path, golden: int, words: str) -> None:
    job = make_job(tmp_path / "job", rows=30, **WIDE)
    make_golden(job, golden)
    refused = rowtide("eval", job, "--prove", environment={"ROWTIDE_HOME": str(tmp_path / "home")})
    assert refused.status == 2
    assert refused.err.count(words) == 1
