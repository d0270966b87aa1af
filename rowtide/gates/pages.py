"""Judging rows in pages of a frame: each expectation looks at one row at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pandas as pd

from rowtide.errors import UserMistake
from rowtide.gates.gates import Expectation, Suite, as_suite, great_expectations, quiet_context, trouble_of
from rowtide.tools.tool_rules import cut

ROW = "rowtide_row_no"  # no column of anybody's
GOT = 200  # characters of a value that are told


@dataclass(frozen=True)
class Found:
    """What one expectation said of one page."""

    expectation: Expectation
    judged: int
    failed: dict[int, str] = field(default_factory=dict)
    """row_no → what is wrong with it."""


class Pages:
    """Expectations over single rows, ready to judge page after page."""

    def __init__(self, suite: Suite, expectations: Sequence[Expectation]) -> None:
        gx = great_expectations()
        context = quiet_context(gx)
        source = context.data_sources.add_pandas("pages").add_dataframe_asset("rows")
        self._pages = source.add_batch_definition_whole_dataframe("page")
        self._suite = context.suites.add(as_suite(gx, expectations, suite.file))
        self._file, self._by_place = suite.file, {each.place: each for each in expectations}
        self._columns = list(dict.fromkeys(column for each in expectations for column in each.columns))

    def judge(self, rows: Sequence[tuple[int, dict[str, Any]]]) -> list[Found]:
        """Judge a page of (row_no, values). Raises UserMistake for an expectation that its values do not go with."""
        if not self._by_place or not rows:
            return []
        wanted = {"result_format": "COMPLETE", "unexpected_index_column_names": [ROW]}
        batch = self._pages.get_batch(batch_parameters={"dataframe": self._frame(rows)})
        found = batch.validate(self._suite, result_format=wanted)
        return [self._found(each, len(rows)) for each in found.results]

    def _frame(self, rows: Sequence[tuple[int, dict[str, Any]]]) -> pd.DataFrame:
        columns = {name: _plain([values.get(name) for _, values in rows]) for name in self._columns}
        return pd.DataFrame({ROW: [row_no for row_no, _ in rows], **columns})

    def _found(self, each: Any, rows: int) -> Found:
        expectation = self._by_place[each.expectation_config.meta["n"]]
        if trouble := trouble_of(each):
            raise UserMistake(f"{expectation.words} cannot be judged: {trouble}", file=self._file)
        asked = int(each.result.get("element_count", rows)) - int(each.result.get("missing_count") or 0)
        failed: dict[int, str] = {}
        for row in each.result.get("unexpected_index_list") or []:
            column = expectation.kwargs.get("column")
            got = f", got {cut(repr(row[column]), GOT)}" if column in row else ""
            failed[int(row[ROW])] = expectation.words + got
        return Found(expectation, asked, failed)


def _plain(column: list[object]) -> list[object] | pd.Series:
    """A column as it is: lists and objects as JSON text, for GX compares cells, and these do not hash; and integers as
    integers, of which pandas makes floats where one is missing."""
    kinds = set(map(type, column))
    if kinds & {list, dict}:
        return [orjson.dumps(value).decode() if isinstance(value, list | dict) else value for value in column]
    return pd.Series(column, dtype=object) if kinds >= {int, type(None)} else column
