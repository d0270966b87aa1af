"""Judge rows page by page with the expectations that look at one row at a time."""

from __future__ import annotations  # pandas' types: it is imported when the first page is judged

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pandas as pd

from rowtide.errors import UserMistake
from rowtide.gates.gate_files import (
    Expectation,
    Suite,
    gx_suite,
    import_great_expectations,
    in_memory_context,
    why_not_judged,
)
from rowtide.job.job_code import FIRST_ROWS, is_job_wide_fault, redacted_failure_line
from rowtide.tools.tool_rules import cut_output

ROW = "rowtide_row_no"  # no column of anybody's
GOT = 200  # characters of a value that are told
MOST_ASKED = 1000  # times that one expectation is asked of parts of a page: a minute
Rows = Sequence[tuple[int, dict[str, Any]]]  # (row_no, values)


@dataclass(frozen=True)
class PageResult:
    """The result of one expectation for one page."""

    expectation: Expectation
    judged: int
    failed: dict[int, str] = field(default_factory=dict)
    """row_no → what is wrong with it."""


class PageJudge:
    """Row-level expectations, ready to judge page after page."""

    def __init__(self, suite: Suite, expectations: Sequence[Expectation]) -> None:
        gx = import_great_expectations()
        context = in_memory_context(gx)
        source = context.data_sources.add_pandas("pages").add_dataframe_asset("rows")
        self._pages = source.add_batch_definition_whole_dataframe("page")
        self._suite = context.suites.add(gx_suite(gx, expectations, suite.file))
        self._file, self._by_place = suite.file, {each.place: each for each in expectations}
        self._columns = list(dict.fromkeys(column for each in expectations for column in each.columns))

    def judge(self, rows: Rows) -> list[PageResult]:
        """Judge a page of (row_no, values). A row on which an expectation raises fails it; raises UserMistake where
        most rows do.
        """
        if not self._by_place or not rows:
            return []
        return [self._found(each, rows) for each in self._ask(self._suite, rows)]

    def _ask(self, suite: Any, rows: Rows) -> list[Any]:
        wanted = {"result_format": "COMPLETE", "unexpected_index_column_names": [ROW]}
        batch = self._pages.get_batch(batch_parameters={"dataframe": self._frame(rows)})
        return batch.validate(suite, result_format=wanted).results

    def _frame(self, rows: Sequence[tuple[int, dict[str, Any]]]) -> pd.DataFrame:
        columns = {name: _plain([values.get(name) for _, values in rows]) for name in self._columns}
        return pd.DataFrame({ROW: [row_no for row_no, _ in rows], **columns})

    def _found(self, each: Any, rows: Rows) -> PageResult:
        expectation = self._by_place[each.expectation_config.meta["n"]]
        if why_not_judged(each):
            return self._apart(expectation, rows)
        asked = int(each.result.get("element_count", len(rows))) - int(each.result.get("missing_count") or 0)
        failed: dict[int, str] = {}
        for row in each.result.get("unexpected_index_list") or []:
            column = expectation.kwargs.get("column")
            got = f", got {cut_output(repr(row[column]), GOT)}" if column in row else ""
            failed[int(row[ROW])] = expectation.words + got
        return PageResult(expectation, asked, failed)

    def _apart(self, expectation: Expectation, rows: Rows) -> PageResult:
        """Judge a page by halves, recursively, to isolate the rows on which the expectation raises."""
        suite = gx_suite(import_great_expectations(), [expectation], self._file)
        first, rest = rows[:FIRST_ROWS], rows[FIRST_ROWS:]
        pieces = [rest, *([each] for each in reversed(first))] if rest else [[each] for each in first]
        whole, tried, alone = PageResult(expectation, 0), 0, 0
        for tried in range(1, MOST_ASKED + 1):
            if not pieces:
                return whole
            piece = pieces.pop()
            [each] = self._ask(suite, piece)
            problem = why_not_judged(each)
            if problem and len(piece) > 1:
                pieces += [piece[len(piece) // 2 :], piece[: len(piece) // 2]]
            elif problem:
                alone += 1
                why = {piece[0][0]: f"{expectation.words} cannot be judged: {redacted_failure_line(problem)}"}
                whole = PageResult(expectation, whole.judged + 1, whole.failed | why)
                if is_job_wide_fault(alone, tried, are_all=tried == len(rows)):
                    break
            else:
                found = self._found(each, piece)
                whole = PageResult(expectation, whole.judged + found.judged, whole.failed | found.failed)
        failure = next(reversed(whole.failed.values()))
        raise UserMistake(f"{failure}; {alone:,} of the first {tried:,} rows are like that", file=self._file)


def _plain(column: list[object]) -> list[object] | pd.Series:
    """A column for GX: lists and objects as JSON text, because GX needs hashable cells; integers kept as integers,
    which pandas would turn into floats where one is missing.
    """
    kinds = set(map(type, column))
    if kinds & {list, dict}:
        return [orjson.dumps(value).decode() if isinstance(value, list | dict) else value for value in column]
    return pd.Series(column, dtype=object) if kinds >= {int, type(None)} else column
