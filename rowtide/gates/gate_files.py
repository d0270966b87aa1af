"""Read and check a gate's file: expectations in Great Expectations' own words (type, kwargs, severity).

The only module that imports Great Expectations. An expectation is judged in one of four ways:

    rows     one row at a time, in pages: when critical, it fails the rows it names
    shares   one row at a time, in pages, and counted: `mostly` holds over the whole run
    whole    over the whole run, by SQL: means, spreads, uniqueness, counts
    metrics  over the metrics of the run (coverage, accepted_share, …); of the load gate only
"""

import logging
import os
import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pydantic.v1 import ValidationError as GXValidationError

from rowtide import gc_tuning
from rowtide.errors import UserMistake, nearest_name
from rowtide.gates.run_metrics import gate_parameters, is_metric, metrics_of_gate, parameter_names_in
from rowtide.job.yaml_file import read_text, read_yaml
from rowtide.late_imports import import_late

Gate = Literal["rows", "answers", "load"]
Way = Literal["rows", "shares", "whole", "metrics"]

KEYS = ("type", "kwargs", "severity", "meta", "description")
COLUMN_KEYS = ("column", "column_A", "column_B")
SEVERITIES = ("critical", "warning", "info")
PARAMETER = "$PARAMETER"
MAPS = {"ColumnMapExpectation", "ColumnPairMapExpectation", "MulticolumnMapExpectation"}
# What one of these says of a row hangs on all others.
AMONG_ALL = {
    "expect_column_values_to_be_unique", "expect_compound_columns_to_be_unique",
    "expect_column_value_z_scores_to_be_less_than", "expect_column_values_to_not_be_outliers",
}  # fmt: skip
NEEDLESS = {
    "expect_column_values_to_be_increasing": "a run's rows have no order that would tell",
    "expect_column_values_to_be_decreasing": "a run's rows have no order that would tell",
    "expect_query_results_to_match_comparison": "a gate sees its run and no other database",
    "expect_table_row_count_to_equal_other_table": "a gate sees its run and no other table",
} | dict.fromkeys(
    (
        "expect_column_to_exist",
        "expect_column_type_to_be",
        "expect_table_column_count_to_be_between",
        "expect_table_column_count_to_equal",
        "expect_table_columns_to_match_ordered_list",
        "expect_table_columns_to_match_set",
    ),
    "which columns there are, and of which type, is checked before anything is sent",
)


@dataclass(frozen=True)
class Expectation:
    """One entry of a gate's file."""

    place: int
    type: str
    kwargs: dict[str, Any]
    severity: str
    way: Way

    @property
    def is_critical(self) -> bool:
        return self.severity == "critical"

    @property
    def columns(self) -> list[str]:
        """The columns it uses; of a condition, every word that may be a column."""
        named = [self.kwargs[key] for key in COLUMN_KEYS if key in self.kwargs]
        words = re.findall(r"\w+", str(self.kwargs.get("row_condition") or ""))
        return list(dict.fromkeys([*named, *self.kwargs.get("column_list", []), *words]))

    @property
    def words(self) -> str:
        """`confidence: expect_column_mean_to_be_between(min_value=0.6)`."""
        column = self.kwargs.get("column") or ", ".join(self.columns) or "all rows"
        shown_kwargs = {key: value for key, value in self.kwargs.items() if key not in ("column", "column_list")}
        rule = ", ".join(f"{key}={_short(value)}" for key, value in shown_kwargs.items())
        return f"{column}: {self.type}({rule})"


@dataclass(frozen=True)
class Suite:
    """A gate's file, checked."""

    gate: Gate
    file: Path
    expectations: list[Expectation]

    @property
    def metrics(self) -> set[str]:
        """The metrics of the run that its expectations name, as a column or in a parameter."""
        named = {column for each in self.of("metrics") for column in each.columns}
        for each in self.expectations:
            for value in each.kwargs.values():
                if isinstance(value, dict) and PARAMETER in value:
                    named |= set(parameter_names_in(str(value[PARAMETER])))
        return {name for name in named if is_metric(self.gate, name)}

    def of(self, *ways: Way) -> list[Expectation]:
        return [each for each in self.expectations if each.way in ways]


def load_suite(file: Path, gate: Gate, columns: Collection[str] | None) -> Suite:
    """Read a gate's file. With None for `columns` they are not checked again.

    Raises UserMistake for an unknown type, key, column or parameter, naming file, line and nearest legal name.
    """
    if not file.is_file():
        raise UserMistake("no such file", file=file, key=f"gates.{gate}")
    found, _ = read_yaml(file)
    text = read_text(file)
    entries = found.get("expectations", []) if isinstance(found, dict) else found
    if not isinstance(entries, list):
        raise UserMistake("a gate is a list of expectations", file=file)
    gx = import_great_expectations()
    read = [_expectation(gx, place, entry, file, text, gate) for place, entry in enumerate(entries)]
    for each in read:
        if columns is not None:
            _check_names(each, gate, columns, file, _line(text, each.type))
        gx_suite(gx, [each], file)
    return Suite(gate, file, read)


def gx_suite(gx: ModuleType, expectations: Sequence[Expectation], file: Path) -> Any:
    """Return Great Expectations' own suite of these expectations, in order. Raises UserMistake for one it refuses."""
    entries = [
        {"type": e.type, "kwargs": e.kwargs, "severity": e.severity, "meta": {"n": e.place}} for e in expectations
    ]
    try:
        return gx.ExpectationSuite(name=file.stem, expectations=entries)
    except (gx.exceptions.GreatExpectationsError, GXValidationError, TypeError, ValueError) as error:
        raise UserMistake(f"Great Expectations refuses it: {error}", file=file) from None


def import_great_expectations() -> ModuleType:
    """Import GX, only where there is a gate: it takes seconds. Its telemetry is switched off before the import."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    is_new = "great_expectations" not in sys.modules
    if is_new:
        import_late("altair", "scipy.stats")  # a second of its time, for charts and for tests of a distribution
    import great_expectations  # noqa: PLC0415 # see above

    if is_new:
        gc_tuning.freeze_imported_objects()  # a million objects; the collector walked them all every few pages
    for name in ("great_expectations", "great_expectations.data_context.types.base"):
        logging.getLogger(name).setLevel(logging.ERROR)  # it speaks of temporary folders
    logging.getLogger("great_expectations.render").setLevel(logging.CRITICAL)  # and of what a page is short of
    return great_expectations


def in_memory_context(gx: ModuleType) -> Any:
    """Return a context of Great Expectations in memory, without progress bars."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def why_not_judged(found: Any) -> str:
    """Return why an expectation could not be judged; empty when it was."""
    info = found.exception_info or {}
    each = [info] if "raised_exception" in info else list(info.values())
    return next((str(one["exception_message"]) for one in each if one.get("raised_exception")), "")


def _expectation(gx: ModuleType, place: int, entry: Any, file: Path, text: str, gate: Gate) -> Expectation:
    if not isinstance(entry, dict) or "type" not in entry:
        raise UserMistake(f"an expectation has a `type` and `kwargs`, not {entry!r}", file=file)
    registry = gx.expectations.registry
    kind, kwargs = str(entry["type"]), entry.get("kwargs") or {}
    line = _line(text, kind)
    for key in entry:
        if key not in KEYS:
            raise UserMistake("unknown key", file=file, line=line, key=key, meant=nearest_name(key, KEYS[:3]))
    types = [each for each in registry.list_registered_expectation_implementations() if each.startswith("expect_")]
    if kind not in types:
        raise UserMistake(f"no expectation is called {kind!r}", file=file, line=line, meant=nearest_name(kind, types))
    if kind in NEEDLESS:
        raise UserMistake(f"{kind} cannot be a gate's: {NEEDLESS[kind]}", file=file, line=line)
    severity = str(entry.get("severity") or "critical")
    if severity not in SEVERITIES:
        meant = nearest_name(severity, SEVERITIES)
        raise UserMistake(f"{severity!r} is not a severity", file=file, line=line, key="severity", meant=meant)
    if not isinstance(kwargs, dict):
        raise UserMistake("`kwargs` is a mapping", file=file, line=line, key="kwargs")
    families = {each.__name__ for each in registry.get_expectation_impl(kind).__mro__}
    return Expectation(place, kind, kwargs, severity, _way(kind, kwargs, gate, is_map=bool(families & MAPS)))


def _way(kind: str, kwargs: dict[str, Any], gate: Gate, *, is_map: bool) -> Way:
    if any(is_metric(gate, kwargs[key]) for key in COLUMN_KEYS if isinstance(kwargs.get(key), str)):
        return "metrics"
    if not is_map or kind in AMONG_ALL:
        return "whole"
    # A row that is about to be written was verified: what is wrong with some of them is wrong with the load.
    is_share = gate == "load" or kwargs.get("mostly") not in (None, 1, 1.0)
    return "shares" if is_share else "rows"


def _check_names(each: Expectation, gate: Gate, columns: Collection[str], file: Path, line: int | None) -> None:
    known = metrics_of_gate(gate, columns) if each.way == "metrics" else columns
    named = {key: each.kwargs[key] for key in COLUMN_KEYS if key in each.kwargs}
    named |= {f"column_list.{n}": name for n, name in enumerate(each.kwargs.get("column_list", []))}
    for key, column in named.items():
        if column not in known:
            thing = {"rows": "the source"}.get(gate, "the answer")
            words = (
                f"{thing} has no column {column!r}" if each.way != "metrics" else f"{column!r} is no metric of a run"
            )
            meant = nearest_name(str(column), [*columns, *metrics_of_gate(gate, columns)])
            raise UserMistake(words, file=file, line=line, key=key, meant=meant)
        if each.way == "metrics" and column in columns:
            words = f"{column!r} is a fact of the run and a column of the answer; call the column something else"
            raise UserMistake(words, file=file, line=line, key=key)
    for key, value in each.kwargs.items():
        legal = gate_parameters(gate, columns)
        for name in parameter_names_in(str(value[PARAMETER])) if isinstance(value, dict) and PARAMETER in value else []:
            if name not in legal:
                words = f"nothing is called {name!r}; a parameter is one of {', '.join(legal)}"
                raise UserMistake(words, file=file, line=line, key=key, meant=nearest_name(name, legal))


def _line(text: str, kind: str) -> int | None:
    return next((n for n, each in enumerate(text.splitlines(), 1) if kind in each), None)


def _short(value: object) -> str:
    value_text = repr(value)
    return value_text if len(value_text) <= 80 else f"{value_text[:80]}…"
