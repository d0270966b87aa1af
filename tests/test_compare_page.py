"""The page of two versions: it says the verdict, shows each row that differs, loads nothing, runs nothing and fits."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest
from conftest import NOW, make_rows, make_run
from sqlalchemy import text
from test_report_page import HOSTILE, chromium, needs_chromium

from rowtide.evals.judge_candidate import judge_candidate
from rowtide.evals.outcome import Arm, ArmAnswer, EvalOutcome, LookOutcome, RowOutcome, pairs_of
from rowtide.evals.scores import Score
from rowtide.evals.verdicts import DecisionPrice, Margins
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.read.transcripts import row_transcript
from rowtide.report.compare_page import render_compare_page
from rowtide.report.transcript import TranscriptLine
from rowtide.stages.report.draw_comparison import draw_comparison

ARMS = ("candidate", "incumbent")
KNOWN = {"country": "GB", "sector": "Energy"}
SECTORS = ("Energy", "Financials", "Health Care", "Industrials")


def answer(score: Score, row_no: int | None = None, *, is_from_before: bool = False) -> ArmAnswer:
    agrees = score == "right"
    given = None if score == "none" else {"country": "GB", "sector": "Energy" if agrees else "Utilities"}
    return ArmAnswer(
        row_no=row_no,
        score=score,
        fields={} if given is None else {"country": True, "sector": agrees},
        answer=given,
        reason="not_verified" if given is None else None,
        tier="sonnet",
        turns=3,
        tool_calls=3,
        cost_micro=1_200,
        is_from_before=is_from_before,
    )


def row(n: int, new: Score, old: Score, **changes: Any) -> RowOutcome:
    made = RowOutcome(
        key=f"KEY-{n}",
        look=1 if n < 60 else 2,
        group=SECTORS[n % 4],
        stratum="random",
        is_pinned=False,
        known=KNOWN,
        by="rule" if n % 3 else "Ada",
        is_same_request=False,
        candidate=answer(new),
        incumbent=answer(old, is_from_before=True),
    )
    return replace(made, **changes)


def compared(counts: Mapping[tuple[Score, Score], int], **changes: Any) -> EvalOutcome:
    """An eval with so many rows of each (candidate's score, incumbent's)."""
    scores = [pair for pair, count in counts.items() for _ in range(count)]
    scores = scores[::7] + [pair for n, pair in enumerate(scores) if n % 7]  # mixed, as a seed would
    rows = tuple(row(n, *pair) for n, pair in enumerate(scores))
    looks: list[LookOutcome] = []
    for look, upto in enumerate((60, len(rows)), 1):
        pairs = pairs_of(rows[:upto])
        finding = judge_candidate(pairs.right, pairs.harm, 0.0125, Margins())
        looks.append(LookOutcome(look, upto, finding, 90_000 * look, NOW.isoformat()))
    arms = [
        Arm("jobs/companies with --skill skills/sectors", "jobs/companies", "a1", "j1", ("haiku", "sonnet", "opus"))
    ]
    arms.append(Arm("jobs/companies as it is", "jobs/companies", "a0", "j1", ("haiku", "sonnet", "opus"), 0, 240))
    found = EvalOutcome(
        eval_id="companies-eval-1",
        job="companies",
        part="confirm",
        candidate=arms[0],
        incumbent=arms[1],
        changed=("skills/sectors/SKILL.md",),
        margins=Margins(),
        level=0.05,
        alpha=0.0304,
        use=1,
        level_left=0.0196,
        planned=(60, 120, 240),
        looks=tuple(looks),
        verdict=looks[-1].finding.verdict,
        reasons=looks[-1].finding.reasons,
        price=DecisionPrice(186, 17, 330_000),
        cost_micro=180_000,
        budget_micro=None,
        is_made_up=True,
        started_at=NOW.isoformat(),
        finished_at=NOW.isoformat(),
        who="Ada",
        rows=rows,
    )
    return replace(found, **changes)


ELEVEN_FOUR: dict[tuple[Score, Score], int] = {
    ("right", "none"): 8,
    ("right", "harm"): 3,
    ("harm", "right"): 1,
    ("none", "right"): 3,
    ("harm", "none"): 1,
    ("right", "right"): 140,
    ("none", "none"): 4,
}
SAID = [
    TranscriptLine("haiku", 'calls register__find_company({"name":"Acme"})'),
    TranscriptLine("register.find_company", '{"register_id":"R-000001","activity":"Coal, and electric power"}'),
    TranscriptLine("haiku", orjson.dumps({"country": "GB", "sector": "Utilities"}).decode()),
    TranscriptLine("Rowtide", "told what was wrong: sector: the rubric names another", is_fault=True),
]


def page(found: EvalOutcome) -> str:
    said = {(each.key, arm): SAID for each in found.rows for arm in ARMS}
    return render_compare_page(found, said, now=NOW + timedelta(hours=1))


def test_the_page_says_the_verdict_and_shows_each_row_that_was_fixed_or_broken_with_both_conversations() -> None:
    found = compared(ELEVEN_FOUR)
    html = page(found)
    assert (len(found.fixed), len(found.broken)) == (11, 4)
    assert "it fixes 11 rows and breaks 4 of 160" in html
    for each in (*found.fixed, *found.broken):
        assert html.count(f"<strong>{each.key}</strong>") == 1
    assert html.count("<summary>Both conversations</summary>") == 11 + 4 + 1
    assert html.count("Coal, and electric power") == 2 * (11 + 4 + 1)
    assert html.index("Rows broken") < html.index("Rows fixed") < html.index("Wrong in another way")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("better", "The candidate is better: it fixes 11 rows"),
        ("not_worse", "The candidate is not worse by 3 points"),
        ("worse", "The candidate is worse: pinned row KEY-1 came out wrong."),
        ("undecided", "Deciding would take about 186 more golden rows, $0.3300 and 17 labels."),
        ("invalid", "The two cannot be compared: pinned row KEY-1 came out wrong."),
        (None, "The eval goes on: so far, it fixes 11 rows"),
    ],
)
def test_each_verdict_has_its_sentence(verdict: Any, words: str) -> None:
    html = page(compared(ELEVEN_FOUR, verdict=verdict, reasons=("pinned row KEY-1 came out wrong",)))
    assert words in html


def test_it_says_what_the_rows_can_prove_and_who_labelled_them() -> None:
    html = page(compared(ELEVEN_FOUR))
    assert "The margin asked for is 3 points: 115 rows at least." in html
    assert re.search(r"Labelled: \d+ by a rule, \d+ by people\.", html)
    assert "This is verdict 1 on the set: its level is 3.04% of 5%, and 1.96% is left for all to come." in html
    assert "The answers are made up by an emulator" in html


def test_an_eval_without_rows_and_one_without_a_difference_have_a_page() -> None:
    empty = compared({}, looks=(), verdict=None)
    assert "fixes 0 rows and breaks 0 of 0" in page(empty)
    assert "Rows broken" not in page(compared({("right", "right"): 120}))


def test_it_loads_nothing_runs_nothing_and_other_peoples_text_is_shown_and_never_obeyed() -> None:
    found = compared(ELEVEN_FOUR)
    rows = tuple(
        replace(
            each,
            key=f"{words}{n}",
            group=words,
            by=words,
            stratum=words,
            known={words: words},
            candidate=replace(each.candidate, answer={words: words}, reason=words, tier=words, failures=(words,)),
        )
        for n, (each, words) in enumerate(zip(found.rows, HOSTILE * 40, strict=False))
    )
    said = {(each.key, arm): [TranscriptLine(each.by, each.by)] for each in rows for arm in ARMS}
    hostile = replace(found, rows=rows, reasons=tuple(HOSTILE), changed=tuple(HOSTILE), who=HOSTILE[0], job=HOSTILE[1])
    html = render_compare_page(hostile, said, now=NOW)
    assert "default-src 'none'" in html
    assert not re.search(r"<(script|link|img|iframe|object|embed|base|form)\b", html, re.IGNORECASE)
    assert not re.search(r"(?i)<[a-z][^>]*[\s:](src|href|action)\s*=|url\(|@import", html)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x1b]", html)
    assert "{{ 7 * 7 }}" in html
    assert "W" * 401 not in html


def test_its_conversations_are_the_ledgers(ledger: Ledger, tmp_path: Path) -> None:
    run = make_run(ledger)
    (number,) = make_rows(ledger, run, 1)
    blocks = [{"type": "text", "text": "I look."}, {"type": "tool_use", "id": "t", "name": "find", "input": {"a": 1}}]
    columns = "row_no, turn, batch_no, tier, stop_reason, content, input_tokens, cache_write_tokens, cache_read_tokens"
    with ledger.page() as tx:
        tx.execute(
            text(
                f"INSERT INTO turn ({columns}, output_tokens, cost_micro, baseline_micro) "
                "VALUES (:row, 1, 1, 1, 'tool_use', :content, 1, 1, 1, 1, 1, 1)"
            ),
            {"row": number, "content": orjson.dumps(blocks)},
        )
        tx.execute(
            text("INSERT INTO tool_call VALUES (:row, 1, 0, 't', 'r.find', :arguments, 'nothing', 1, 7, 0)"),
            {"row": number, "arguments": b"{}"},
        )
        note = (
            "INSERT INTO note (row_no, turn, move, reason, detail, noted_at) VALUES (:row, 1, 'escalate', 'x', '', :at)"
        )
        tx.execute(text(note), {"row": number, "at": NOW.isoformat()})
    with ledger.view() as tx:
        said = row_transcript(tx, number)
        assert row_transcript(tx, number + 1) == []
    assert said == [
        TranscriptLine("sonnet", "I look."),
        TranscriptLine("sonnet", 'calls find({"a":1})'),
        TranscriptLine("r.find", "nothing", is_fault=True),
        TranscriptLine("Rowtide", "sent one tier up: x", is_fault=True),
    ]
    found = compared({("right", "none"): 1})
    found = replace(found, rows=(replace(found.rows[0], candidate=answer("right", number)),))
    draw_comparison(ledger, found, tmp_path / "page.html", now=NOW)
    html = (tmp_path / "page.html").read_text()
    assert "sent one tier up: x" in html
    assert "Its conversation is not in the ledger." in html


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_on_a_phone_or_a_desk(scheme: Literal["light", "dark"]) -> None:
    html = page(compared(ELEVEN_FOUR))
    with chromium() as browser:
        for width in (360, 1280):
            shown = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            shown.set_content(html)
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
            assert shown.evaluate(
                "[...document.querySelectorAll('svg.chart')].some(e => e.getBoundingClientRect().width)"
            )
            shown.close()
