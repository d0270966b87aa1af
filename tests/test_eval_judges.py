"""A judge as a comparer: certified by people's labels or refused, asked once about a pair, corrected for its errors."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from conftest import PROMPT, ask_ledger, make_job
from outside import rowtide
from test_eval_command import eval_job

from emulator.pairs import comparison
from emulator.reading import Reading
from rowtide.errors import RunStopped, UserMistake
from rowtide.evals.eval_words import as_json, as_text
from rowtide.evals.job_golden import read_job_golden
from rowtide.evals.judge_labels import read_labels
from rowtide.evals.judged_pairs import pair_row
from rowtide.evals.judges import certify_judge, share_kept
from rowtide.evals.paired_test import PairedCounts, tango_score_of_counts
from rowtide.job.job_folder import load_job
from rowtide.report.compare_page import render_compare_page

ANSWER = '''
from pydantic import BaseModel, Field


class Answer(BaseModel):
    """A message."""

    gist: str = Field(description="What the message says is wrong, in its own words.")
'''
VERDICT = {"type": "object", "properties": {"same": {"type": "boolean"}, "why": {"type": "string"}}}
NOW = datetime(2026, 11, 28, tzinfo=UTC)
NEWLINE = b"\n"
JUDGE = {"compare": "judge", "rubric": "The same thing is wrong with the same object.", "tier": "opus"}
ROWS = 60
SAYS = ("the invoice is wrong", "the parcel is late", "the manual is missing")
PERSON = ("the invoice that came is wrong", "late parcel", "it is the manual, missing")


def judged_job(folder: Path, labels: int = 40, rows: int = ROWS, **judge: Any) -> Path:
    spec = {"margins": {"right": 0.25, "harm": 0.25}, "dev_share": 0, "fields": {"gist": {**JUDGE, **judge}}}
    job = make_job(folder, rows=rows, answer=ANSWER, evals=spec, prompt=PROMPT)
    golden = [{"key": f"m{n}", "answer": {"gist": f"{PERSON[n % 3]} ({n})"}, "by": "Ada"} for n in range(rows)]
    (job / "golden.jsonl").write_bytes(b"\n".join(map(orjson.dumps, golden)))
    label(job, labels)
    return job


def label(job: Path, count: int) -> None:
    """`count` pairs of each kind, as a person sees them."""
    lines = [
        {"field": "gist", "golden": f"{SAYS[n % 3]} ({n})", "answer": f"{PERSON[(n + off) % 3]} ({n})"}
        | {"same": not off, "by": "Ada"}
        for off in (0, 1)
        for n in range(1000, 1000 + count)
    ]
    (job / "judged.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)))


def judged(home: Path) -> int:
    """How many pairs were paid for."""
    query = (
        "SELECT count(*) FROM turn t JOIN row r USING (row_no) JOIN run u USING (run_no) WHERE u.run_id LIKE '%judge%'"
    )
    return ask_ledger(home, query)[0][0]


def paid_arms(home: Path) -> int:
    """How many golden rows were paid for."""
    return ask_ledger(home, "SELECT count(*) FROM turn")[0][0] - judged(home)


def test_a_certified_judge_says_which_rows_are_right_and_is_asked_about_no_pair_twice(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", judged_job(tmp_path / "job")
    first = eval_job(job, home)
    assert (first.verdict, judged(home)) == ("not_worse", 80 + ROWS), "labels; and each pair once, though in both arms"
    right = sum(row.candidate.score == "right" for row in first.rows)
    assert 40 < right < ROWS, "no text is the golden one to the letter: the judge said so"
    (judge,) = as_json(first)["judges"]
    assert (judge["is_certified"], judge["labels"]["good_passed"]) == (True, 40)
    rate = judge["rates"][0]
    assert (rate["arm"], rate["judged"], rate["same"]) == ("candidate", ROWS, right)
    assert rate["corrected"]["low"] <= rate["same"] / ROWS <= rate["corrected"]["high"]
    assert any("if its errors are taken out" in line for line in as_text(first))
    assert "<h2>Judges</h2>" in render_compare_page(first, {}, now=NOW)
    cost = ask_ledger(home, "SELECT sum(cost_micro) FROM batch")[0][0]
    assert first.cost_micro == cost, "what judges cost is the eval's"

    (job / "prompt.md").write_text(PROMPT.replace("Sort", "Sort with care"))
    second = eval_job(job, home)
    pairs = {(str(row.known), str(row.candidate.answer)) for row in (*first.rows, *second.rows)}
    assert second.changed == ("prompt.md",)
    assert judged(home) == 80 + len(pairs), "of the labels nothing is asked again, of the pairs only new ones"


def test_a_judge_that_people_contradict_gates_nothing_and_no_version_is_asked(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", judged_job(tmp_path / "job", tier="haiku")
    assert eval_job(job, home).verdict == "invalid"
    found = eval_job(job, home, changes={"settings": ("limits.max_tokens=4000",)})
    assert "the judge of gist" in render_compare_page(found, {}, now=NOW), "a page without a row"
    assert (found.verdict, found.looks, found.use) == ("invalid", (), 1)
    assert "the judge of gist (haiku) is not certified" in found.reasons[0] and "of 40 different" in found.reasons[0]
    assert (judged(home), paid_arms(home)) == (80, 0), "the labels once, for both evals"
    text = (job / "job.yaml").read_text()
    (job / "job.yaml").write_text(text.replace("tier: haiku", "tier: opus"))
    after = eval_job(job, home, changes={"settings": ("limits.max_tokens=4000",)})
    assert (after.verdict, after.use) == ("not_worse", 1), "what was refused took nothing of the set's level"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "not JSON"),
        (b"[]", "a labelled pair is"),
        (b'{"field": "gist", "golden": "a", "answer": "b", "same": true}', "lacks by"),
        (
            b'{"field": "gist", "golden": "a", "answer": "b", "same": "yes", "by": "Ada"}',
            "`same` must be true or false",
        ),
        (b'{"field": "gist", "golden": "a", "answer": "b", "same": true, "by": " "}', "`by` must be the name"),
        (b'{"field": "gist", "golden": "a", "answer": "b", "same": true, "by": "model: opus"}', "only people"),
        (b'{"field": "gits", "golden": "a", "answer": "b", "same": true, "by": "Ada"}', "did you mean 'gist'"),
        (b'{"field": ["gist"], "golden": "a", "answer": "b", "same": true, "by": "Ada"}', "has no judge"),
        (b'{"field": "gist", "golden": "a", "answer": "b", "sane": true, "by": "Ada"}', "did you mean 'same'"),
        (b'{"field": "gist", "golden": "A  b", "answer": "a B", "same": true, "by": "Ada"}', "no judge is asked"),
        (b'{"field": "gist", "golden": null, "answer": "b", "same": false, "by": "Ada"}', "one is null"),
        (
            b'{"field": "gist", "golden": "a", "answer": "b", "same": false, "by": "Bo"}\n'
            b'{"field": "gist", "golden": "a", "answer": "b", "same": true, "by": "Ada"}',
            "line 81 says of this pair that it is different",
        ),
    ],
)
def test_a_line_that_is_no_label_of_a_persons_is_named(line: bytes, says: str, tmp_path: Path) -> None:
    job = judged_job(tmp_path / "job")
    with (job / "judged.jsonl").open("ab") as labels:
        labels.write(b"\n" + line)
    with pytest.raises(UserMistake) as refused:
        read_labels(job / "judged.jsonl", ["gist"])
    assert says in str(refused.value) and f"judged.jsonl:{81 + line.count(NEWLINE)}" in str(refused.value)


def test_too_few_labels_and_a_judge_that_cannot_be_are_refused_before_a_cent(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", judged_job(tmp_path / "job", labels=9)
    with pytest.raises(UserMistake, match="lacks 5 pairs that people call same and 5 pairs that people call different"):
        eval_job(job, home)
    (job / "judged.jsonl").unlink()
    with pytest.raises(UserMistake, match="lacks 14 pairs that people call same and 14"):
        eval_job(job, home)
    label(job, 40)
    good = (job / "job.yaml").read_text()
    for was, now, says in [
        ("tier: opus", "tier: opsu", r"job.yaml:\d+: evals.fields.gist: .*did you mean 'opus'"),
        ("rubric:", "rubrik:", r"job.yaml:\d+: evals.fields.gist.rubric: this key is required"),
        ("tier:", "teir:", r"job.yaml:\d+: evals.fields.gist.teir: unknown key; legal here: compare, rubric, tier"),
        ("The same thing", "As {{ known }}, the same", r"job.yaml:\d+: evals.fields.gist.rubric: .*plain words"),
        ("compare: judge", "compare: jugde", "did you mean 'judge'"),
    ]:
        (job / "job.yaml").write_text(good.replace(was, now))
        with pytest.raises(UserMistake, match=says):
            eval_job(job, home)
    assert ask_ledger(home, "SELECT count(*) FROM batch") == [(0,)]


@pytest.mark.parametrize("dies_at", range(0, 12, 2))
def test_killed_anywhere_it_goes_on_and_pays_nothing_twice(dies_at: int, api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", judged_job(tmp_path / "job")
    left = [dies_at]

    def die(stage: str) -> None:
        if stage in ("judge_look", "next_look", "wait", "submit", "follow_up"):
            left[0] -= 1
            if left[0] == -1:
                raise KeyError(stage)

    with pytest.raises(KeyError):
        eval_job(job, home, on_stage=die)
    found = eval_job(job, home)
    assert (found.verdict, judged(home), paid_arms(home)) == ("not_worse", 80 + ROWS, ROWS)
    assert ask_ledger(home, "SELECT count(*) FROM eval") == [(1,)]
    assert ask_ledger(home, "SELECT count(*) FROM run WHERE finished_at IS NULL") == [(0,)]


def test_a_purge_of_a_row_takes_what_judges_were_asked_for_a_pair_names_no_row(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", judged_job(tmp_path / "job")
    eval_job(job, home)
    assert rowtide("purge", "--key", "m1", "--yes", environment={"ROWTIDE_HOME": str(home)}).status == 0
    kept = "SELECT count(*) FROM row_content c JOIN row r USING (row_no) JOIN run u USING (run_no) WHERE"
    kept += " length(c.content) > 2 AND"
    assert ask_ledger(home, f"{kept} u.run_id LIKE '%judge%'") == [(0,)]
    assert ask_ledger(home, f"{kept} u.run_id NOT LIKE '%judge%'") == [(ROWS - 1,)]
    assert eval_job(job, home, changes={"settings": ("limits.max_tokens=4000",)}).verdict == "not_worse"
    assert judged(home) > 2 * 80, "the labelled pairs are judged again"


def test_a_judge_stops_at_the_evals_budget_and_goes_on_with_more(api: Any, tmp_path: Path) -> None:
    home, job = tmp_path / "home", judged_job(tmp_path / "job")
    with pytest.raises(RunStopped, match="budget"):
        eval_job(job, home, budget=0.001)
    assert paid_arms(home) == 0
    assert eval_job(job, home, budget=5).verdict == "not_worse"
    assert judged(home) == 80 + ROWS


def test_outside_of_an_eval_no_judge_is_asked_and_its_field_counts_for_nothing(tmp_path: Path) -> None:
    job = judged_job(tmp_path / "job", rows=6)
    assert read_job_golden(load_job(job)).rows == {}


def test_the_place_of_a_value_says_nothing_of_it() -> None:
    pairs = [pair_row(f"known {n}", f"answered {n}") for n in range(400)]
    first = sum(each["first"].startswith("known") for each in pairs)
    assert 150 < first < 250
    assert {tuple(each) for each in pairs} == {("pair", "first", "second")}
    assert pair_row([1, "é"], {"a": None}) == pair_row([1, "é"], {"a": None})


def test_a_version_that_is_worse_by_the_margin_does_not_pass_by_the_errors_of_its_judge() -> None:
    """Of 20 draws at most one, though a judge with errors sees less of the difference than there is."""
    draw, rows, margin, draws = np.random.default_rng(7), 480, 0.05, 2_000
    labels = [(good, (number < 180) == good) for good in (True, False) for number in range(200)]
    kept = share_kept(certify_judge(labels))
    new, old = (draw.random((draws, rows)) < share for share in (0.75, 0.75 + margin))
    seen = [np.where(draw.random((draws, rows)) < 0.1, ~each, each) for each in (new, old)]
    fixed, broken = (seen[0] & ~seen[1]).sum(1).tolist(), (seen[1] & ~seen[0]).sum(1).tolist()
    counts = [PairedCounts(rows, *each) for each in zip(fixed, broken, strict=True)]

    def passing(by: float) -> float:
        return sum(tango_score_of_counts(each, -by) > 1.645 for each in counts) / draws

    assert passing(margin * kept) <= 0.055 < passing(margin), "with the margins as they are written, more would pass"


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("the invoice is wrong", "the invoice that came is wrong", True),
        ("late parcel", "The parcel is late.", True),
        ("late parcel (3)", "the parcel is late (4)", False),
        ("the parcel came", "the parcel never came", False),
        ("the parcel is late", "the manual is missing", False),
        ("", "", False),
    ],
)
def test_the_emulator_compares_two_texts_by_their_words_figures_and_denials(
    first: str, second: str, is_same: bool
) -> None:
    asked = Reading("", f"<first>\n{first}\n</first>\n<second>\n{second}\n</second>", VERDICT)
    assert comparison(asked, VERDICT, "opus", {})["same"] is is_same
    told = comparison(asked, VERDICT, "opus", {"same": not is_same, "team": "told of every row"})
    assert told["same"] is not is_same and told.keys() == {"same", "why"}


def test_in_postgres_a_judge_is_certified_and_remembered_too(
    api: Any, postgres_ledger: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROWTIDE_LEDGER", postgres_ledger)
    home, job = tmp_path / "home", judged_job(tmp_path / "job")
    first = eval_job(job, home)
    second = eval_job(job, home, changes={"settings": ("limits.max_tokens=4000",)})
    assert (first.verdict, second.verdict, second.use) == ("not_worse", "not_worse", 1)
    assert second.cost_micro < first.cost_micro / 4, "what was judged is known"
    done = rowtide(
        "purge", "--key", "m1", "--yes", environment={"ROWTIDE_HOME": str(home), "ROWTIDE_LEDGER": postgres_ledger}
    )
    assert done.status == 0
