"""What answers must pass together: the only module that imports Great Expectations, whose types stop here.

A suite is a file in GX's own words (type, kwargs, severity). A row-level expectation of severity `critical` fails the
rows it names, unless its `mostly` is met; a `warning` or `info` never fails a row.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml
from pydantic.v1 import ValidationError as GXValidationError

from rowtide.errors import RowtideError, UserMistake, nearest

if TYPE_CHECKING:
    import great_expectations as gx
    from great_expectations.core.batch_definition import BatchDefinition

ROW = "row_no"


@dataclass(frozen=True)
class Suite:
    """A gate, ready to judge pages."""

    expectations: "gx.ExpectationSuite"
    pages: "BatchDefinition[Any]"


@dataclass(frozen=True)
class Verdict:
    """Rows that failed (row_no → reasons), and expectations over the whole page that did."""

    failures: dict[int, list[str]]
    page_failures: list[str]


def load_suite(file: Path, columns: Sequence[str]) -> Suite:
    """Read a gate. Raises UserMistake for an unknown type, key or column, naming file, line and nearest legal name."""
    if not file.is_file():
        raise UserMistake("no such file", file=file, key="gates")
    text = file.read_text(encoding="utf-8")
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserMistake(f"not YAML: {error}", file=file) from None
    entries = found.get("expectations", []) if isinstance(found, dict) else found
    if not isinstance(entries, list):
        raise UserMistake("a gate is a list of expectations", file=file)
    gx = _great_expectations()
    types = frozenset(_snake(name) for name in vars(gx.expectations) if name.startswith("Expect"))
    for entry in entries:
        _check(entry, file, text, columns, types)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    pages = (
        context.data_sources.add_pandas("pages")
        .add_dataframe_asset("answers")
        .add_batch_definition_whole_dataframe("page")
    )
    try:
        suite = context.suites.add(gx.ExpectationSuite(name=file.stem, expectations=entries))
    except (gx.exceptions.GreatExpectationsError, GXValidationError, TypeError, ValueError) as error:
        raise UserMistake(f"Great Expectations refuses it: {error}", file=file) from None
    return Suite(suite, pages)


def judge(suite: Suite, frame: pd.DataFrame) -> Verdict:
    """Judge one page: a frame with an integer `row_no` and the answers' columns."""
    wanted = {"result_format": "COMPLETE", "unexpected_index_column_names": [ROW]}
    batch = suite.pages.get_batch(batch_parameters={"dataframe": _plain(frame)})
    found = batch.validate(suite.expectations, result_format=wanted)
    verdict = Verdict({}, [])
    for each in found.results:
        config = each.expectation_config
        assert config is not None
        if each.exception_info and each.exception_info.get("raised_exception"):
            raise RowtideError(f"gate: {config.type} could not be judged: {each.exception_info['exception_message']}")
        if not each.success and str(config.severity or "critical").rpartition(".")[2].lower() == "critical":
            _sort(verdict, config.type, config.kwargs, each.result)
    return verdict


def _great_expectations() -> ModuleType:
    """Import GX: six seconds, so only where there is a gate. It reads its switch for telemetry when imported."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations  # noqa: PLC0415 # see above

    for name in ("great_expectations", "great_expectations.data_context.types.base"):
        logging.getLogger(name).setLevel(logging.ERROR)  # it speaks of temporary folders
    return great_expectations


def _sort(verdict: Verdict, kind: str, kwargs: dict[str, Any], result: dict[str, Any]) -> None:
    rule = ", ".join(f"{key}={value!r}" for key, value in kwargs.items() if key not in ("column", "batch_id"))
    column = kwargs.get("column", "page")
    rows = result.get("unexpected_index_list")
    if rows is None:
        verdict.page_failures.append(f"{column}: {kind}({rule}), observed {result.get('observed_value')!r}")
        return
    for row in rows:
        got = f", got {row[column]!r}" if column in row else ""
        verdict.failures.setdefault(int(row[ROW]), []).append(f"{column}: {kind}({rule}){got}")


def _check(entry: Any, file: Path, text: str, columns: Sequence[str], types: frozenset[str]) -> None:
    if not isinstance(entry, dict) or "type" not in entry:
        raise UserMistake(f"an expectation has a `type` and `kwargs`, not {entry!r}", file=file)
    kind = str(entry["type"])
    line = next((n for n, each in enumerate(text.splitlines(), 1) if kind in each), None)
    for key in entry:
        if key not in ("type", "kwargs", "severity", "meta", "description"):
            raise UserMistake(
                "unknown key", file=file, line=line, key=key, meant=nearest(key, ["type", "kwargs", "severity"])
            )
    if kind not in types:
        raise UserMistake(f"no expectation is called {kind!r}", file=file, line=line, meant=nearest(kind, types))
    for key in ("column", "column_A", "column_B"):
        column = entry.get("kwargs", {}).get(key)
        if column is not None and column not in columns:
            meant = nearest(column, columns)
            raise UserMistake(f"the answer has no column {column!r}", file=file, line=line, key=key, meant=meant)


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Lists and objects as text: GX compares cells, and these do not hash."""
    nested = [name for name in frame.columns if any(isinstance(value, list | dict) for value in frame[name])]
    return frame.assign(**{name: frame[name].map(str) for name in nested}) if nested else frame


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
