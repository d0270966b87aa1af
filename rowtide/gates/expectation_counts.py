"""Add up the results of pages for each expectation, and turn the sums into verdicts and gate failures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from rowtide.gates.approvals import GateFailure
from rowtide.gates.expectation_verdict import EXAMPLES, ExpectationVerdict
from rowtide.gates.gate_files import Expectation, Suite
from rowtide.gates.page_judging import PageResult
from rowtide.gates.whole_run import ExpectationOutcome
from rowtide.tools.tool_rules import cut_output

OBSERVED = 2000  # bytes of JSON that are kept
SHOWN_CHARACTERS = 200  # characters of it that are told


@dataclass
class ExpectationCount:
    """How many rows one expectation has judged, how many failed, and the keys of a few."""

    judged: int = 0
    failed: int = 0
    examples: list[str] = field(default_factory=list)


class ExpectationCounts:
    """The counts of every expectation that is judged in pages."""

    def __init__(self, expectations: Sequence[Expectation]) -> None:
        self._all = {each.place: (each, ExpectationCount()) for each in expectations}

    def add(self, page: Sequence[PageResult], keys: Mapping[int, str]) -> None:
        """Add a page's results; `keys` are those of its rows, by row_no."""
        for found in page:
            counted = self._all[found.expectation.place][1]
            counted.judged += found.judged
            counted.failed += len(found.failed)
            wanted = list(found.failed)[: EXAMPLES - len(counted.examples)]
            counted.examples += [keys[row_no] for row_no in wanted]

    def outcomes(self) -> list[ExpectationOutcome]:
        """Return the outcome of each expectation over all pages."""
        return [
            ExpectationOutcome(each, _is_met(each, counted), counted.judged, counted.failed, None, counted.examples)
            for each, counted in self._all.values()
        ]


def verdicts_of_outcomes(
    suite: Suite, outcomes: Sequence[ExpectationOutcome], metrics: Mapping[str, Any]
) -> list[ExpectationVerdict]:
    """Return the outcomes as verdicts for the ledger."""
    found: list[ExpectationVerdict] = []
    for each in outcomes:
        observed = metrics.get(each.expectation.kwargs.get("column", ""), each.observed)
        written = suite.expectations[each.expectation.place]
        found.append(
            ExpectationVerdict(
                gate=suite.gate,
                place=written.place,
                type=written.type,
                kwargs=written.kwargs,
                severity=written.severity,
                passed=each.passed,
                judged=each.judged,
                failed=each.failed,
                observed=_short(observed),
                examples=each.examples,
                message=each.message or _words(each, observed),
            )
        )
    return found


def critical_run_failures(suite: Suite, verdicts: Sequence[ExpectationVerdict]) -> list[GateFailure]:
    """Return the failures that hold a run: critical expectations that failed, except those that only fail
    single rows.
    """
    rows = {each.place for each in suite.of("rows")}
    return [
        GateFailure(
            each.gate, f"{each.type} {orjson.dumps(each.kwargs).decode()}", each.message, each.failed, each.examples
        )
        for each in verdicts
        if each.passed is False and each.severity == "critical" and each.place not in rows
    ]


def failing_rows_of_page(page: Sequence[PageResult]) -> dict[int, list[str]]:
    """Return row_no → reasons, for the rows that critical row-level expectations fail."""
    failures: dict[int, list[str]] = {}
    for found in page:
        if found.expectation.is_critical and found.expectation.way == "rows":
            for row_no, why in found.failed.items():
                failures.setdefault(row_no, []).append(why)
    return failures


def _is_met(each: Expectation, counted: ExpectationCount) -> bool:
    mostly = each.kwargs.get("mostly")
    return counted.judged - counted.failed >= (1.0 if mostly is None else float(mostly)) * counted.judged


def _words(each: ExpectationOutcome, observed: Any) -> str:
    if (each.observed is None and observed is None) or each.judged > 1:
        return f"{each.expectation.words}, {each.failed:,} of {each.judged:,} rows failed"
    return f"{each.expectation.words}, observed {cut_output(repr(_rounded(observed)), SHOWN_CHARACTERS)}"


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def _short(observed: Any) -> Any:
    return observed if len(orjson.dumps(observed)) <= OBSERVED else cut_output(str(observed), OBSERVED)
