"""An eval's outcome as Markdown, for a page of Prefect's: the verdict, both measures, both versions."""

from collections.abc import Iterator
from pathlib import Path

from rowtide.escaping import (
    NOTHING,
    Markdown,
    escape_markdown,
    markdown_bold,
    markdown_code,
    markdown_labelled,
    markdown_page,
    markdown_table,
)
from rowtide.evals.eval_words import arm_figures, judge_lines, verdict_line
from rowtide.evals.outcome import EvalOutcome
from rowtide.evals.verdicts import Finding
from rowtide.report.compare_text import verdict_sentence
from rowtide.text_format import format_usd

MOST_KEYS = 20


def verdict_as_markdown(found: EvalOutcome, page: Path | None) -> Markdown:
    """The verdict in a sentence, then what it stands on. `page` is where both versions stand side by side."""
    return markdown_page(
        markdown_bold(verdict_sentence(found)),
        escape_markdown(verdict_line(found)),
        markdown_labelled(
            candidate=found.candidate.label,
            incumbent=found.incumbent.label,
            differ_in=", ".join(found.changed),
            by=found.who,
        ),
        _measures(found.looks[-1].finding) if found.looks else NOTHING,
        _arms(found) if found.looks else NOTHING,
        escape_markdown(found.override or ""),
        *map(escape_markdown, judge_lines(found)),
        *(escape_markdown(f"because {each}") for each in found.reasons),
        *_rows(found),
        markdown_code(page) if page else NOTHING,
    )


def _measures(finding: Finding) -> Markdown:
    heads = ["measure", "rows", "better", "worse", "at least, points", "margin, points", "level"]
    cells = [
        (
            *(name, each.counts.rows, each.counts.fixed, each.counts.broken),
            *(f"{100 * each.bound:+.1f}", f"{100 * each.margin:g}", f"{each.alpha:.2%}"),
        )
        for name, each in (("right", finding.right), ("harm", finding.harm))
    ]
    return markdown_table(heads, cells, numbers=6)


def _arms(found: EvalOutcome) -> Markdown:
    heads = ["version", "rows", "right", "harm", "no answer", "known before", "a row"]
    cells: list[tuple[object, ...]] = []
    for name in ("candidate", "incumbent"):
        each = arm_figures(found, name)
        cost = "" if each["cost_per_row_usd"] is None else format_usd(each["cost_per_row_usd"])
        none = each["none"] + each["unscored"]
        cells.append((name, each["rows"], each["right"], each["harm"], none, each["from_ledger"], cost))
    return markdown_table(heads, cells, numbers=6)


def _rows(found: EvalOutcome) -> Iterator[Markdown]:
    for word, rows in (("broken", found.broken), ("fixed", found.fixed)):
        if rows:
            more = f" and {len(rows) - MOST_KEYS:,} more" if len(rows) > MOST_KEYS else ""
            yield markdown_labelled(**{word: ", ".join(row.key for row in rows[:MOST_KEYS]) + more})
