"""The metrics of a run that a gate may name, and the parameters taken from the last good run."""

import re
from collections.abc import Collection, Mapping
from typing import Any

# Of any run, from its rows.
RUN_METRICS = ("rows", "asked", "accepted", "quarantined", "unchanged", "coverage", "accepted_share", "cost_usd")
# Of this one, just before it loads.
GOLDEN_METRICS = ("golden_rows", "golden_right")
LOAD_METRICS = ("to_load", "new_keys", "replaced_keys", "in_sink", *GOLDEN_METRICS)
# Of its answers, for each field: `distinct.FIELD`.
FIELD_METRICS = ("distinct", "top_share", "shortest")

NO_EARLIER_RUN = "no earlier run to compare with"

_NAME = re.compile(r"[A-Za-z_][\w.]*(?!\w*\()")
_FUNCTIONS = frozenset({"sin", "cos", "tan", "exp", "abs", "trunc", "round", "sgn", "now", "datetime", "timedelta"})
_CONSTANTS = frozenset({"E", "PI"})


def metrics_of_gate(gate: str, columns: Collection[str] = ()) -> list[str]:
    """Return the metrics of this run that a gate can ask about. `columns` are the answer's."""
    by_field = [f"{metric}.{column}" for column in columns for metric in FIELD_METRICS]
    return [*RUN_METRICS, *LOAD_METRICS, *by_field] if gate == "load" else []


def fields_measured(metrics: Collection[str]) -> list[str]:
    """Return the fields of the answer that these metrics are about, each once."""
    parts = (name.partition(".") for name in metrics)
    return sorted({field for metric, _, field in parts if field and metric in FIELD_METRICS})


def is_metric(gate: str, name: str) -> bool:
    """Return whether a gate takes this name for a metric and not for a column."""
    metric, dot, _ = name.partition(".")
    return name in metrics_of_gate(gate) or (gate == "load" and bool(dot) and metric in FIELD_METRICS)


def gate_parameters(gate: str, columns: Collection[str]) -> list[str]:
    """Return the names that may stand in a gate's `$PARAMETER`."""
    distribution = [] if gate == "rows" else columns  # the spread of answers is kept, not that of the source
    return [*metrics_of_gate(gate, columns), *(f"last.{name}" for name in (*RUN_METRICS, *distribution))]


def parameter_names_in(expression: str) -> list[str]:
    """Return the parameters that an expression uses."""
    return [name for name in _NAME.findall(expression) if name not in _FUNCTIONS | _CONSTANTS]


def undotted_expression(expression: str) -> str:
    """Return an expression such as `last.accepted * 0.9` with names that have no dots, as Great
    Expectations requires.
    """
    return _NAME.sub(lambda found: found[0].replace(".", "_"), expression)


def parameter_values(
    metrics: Mapping[str, float | None], last: Mapping[str, float] | None, distributions: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the value of each parameter; those of the last run only when there is one."""
    before = {**distributions, **last} if last is not None else {}
    now = {name.replace(".", "_"): value for name, value in metrics.items()}
    return {**now, **{f"last_{name}": value for name, value in before.items()}}
