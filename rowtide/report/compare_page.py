"""Two versions of a job on one page of HTML: the verdict, what it stands on, and each row on which they differ."""

from datetime import datetime

import orjson

from rowtide.evals.eval_words import judge_lines
from rowtide.evals.outcome import ArmAnswer, EvalOutcome, RowOutcome
from rowtide.evals.scores import Score
from rowtide.report import compare_figures as figures
from rowtide.report.compare_text import lead, proofs, verdict_pill, verdict_sentence
from rowtide.report.page_template import render_template
from rowtide.report.transcript import Transcripts
from rowtide.text_format import shorten_text

MOST_ROWS = 60  # of a kind that are shown with their conversations
SCORE_WORDS: dict[Score, str] = {
    "right": "right",
    "harm": "loaded and wrong",
    "none": "quarantined",
    "unscored": "not scored",
}


def render_compare_page(found: EvalOutcome, transcripts: Transcripts, *, now: datetime) -> str:
    """Return the page. `transcripts` has the conversations of the rows that differ; one that is missing
    is not shown.
    """
    word, colour = verdict_pill(found)
    others = [row for row in found.rows if row.change == "same" and row.candidate.score != row.incumbent.score]
    pinned = [row for row in found.rows if row.is_pinned and row.candidate.score != "right"]
    kinds = {
        "Rows broken": (found.broken, "Right with the incumbent, and not with the candidate."),
        "Rows fixed": (found.fixed, "Right with the candidate, and not with the incumbent."),
        "Pinned rows that came out wrong": (pinned, "Each must come out right, whatever the statistics say."),
        "Wrong in another way": (others, "Right with neither: one loads a wrong answer, the other quarantines it."),
    }
    return render_template(
        "compare.html",
        found=found,
        word=word,
        colour=colour,
        headline=verdict_sentence(found),
        lead=lead(found),
        proofs=list(proofs(found)),
        judges=judge_lines(found),
        drawn=[
            figures.difference_in_all(found),
            figures.differences_by_field(found),
            figures.differences_by_group(found),
        ],
        arms=figures.arm_table(found),
        kinds=kinds,
        most=MOST_ROWS,
        transcripts=transcripts,
        scores=SCORE_WORDS,
        outcome_text=_outcome_text,
        fields=_fields,
        drawn_at=f"{now:%Y-%m-%d %H:%M:%S}",
    )


def rows_to_show(found: EvalOutcome) -> list[RowOutcome]:
    """Return the rows whose conversations the page shows."""
    differing = [row for row in found.rows if row.candidate.score != row.incumbent.score]
    return [*found.broken[:MOST_ROWS], *found.fixed[:MOST_ROWS], *differing[:MOST_ROWS]]


def _fields(row: RowOutcome) -> list[tuple[str, str, str, bool, str, bool]]:
    """Each golden field: (name, known, candidate's, whether it agrees, incumbent's, whether it agrees)."""
    return [
        (name, _json(known), *_given(row.candidate, name), *_given(row.incumbent, name))
        for name, known in row.known.items()
    ]


def _given(answer: ArmAnswer, name: str) -> tuple[str, bool]:
    given = "–" if answer.answer is None or name not in answer.answer else _json(answer.answer[name])
    return given, answer.fields.get(name, False)


def _outcome_text(answer: ArmAnswer) -> str:
    """What came of a row, in words."""
    why = f" ({shorten_text(answer.reason, 80)})" if answer.reason else ""
    spoke = f", {shorten_text(answer.tier, 40)}" if answer.tier else ""
    failed = "".join(f"; {shorten_text(each, 200)}" for each in answer.failures[:3])
    return f"{SCORE_WORDS[answer.score]}{why}{spoke}, {answer.turns} turns{failed}"


def _json(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
