"""Which calls, rows and batches a plan's rules strike, and how often each rule has struck.

Everything is drawn from seeds and counted from when the plan was loaded, so a plan does the same to the same work.
Calls and rows are looked at in several threads: counting happens under one lock.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import orjson

from emulator.identifiers import fingerprint, workspace_of
from emulator.plan import Act, BatchRule, CallRule, Fate, RowResult, RowRule, Rule, Which, as_given

# The size of what `fingerprint` gives.
FINGERPRINTS = 1 << 136


@dataclass(frozen=True, slots=True)
class Strike:
    """What is to go wrong with a call: which rule says so, and which of its account's calls it is."""

    rule: int
    act: Act
    ordinal: int


class Aim:
    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._rules = list(enumerate(rules))
        self._has_rows = any(isinstance(rule, RowRule) for rule in rules)
        self._counts_rows = any(isinstance(rule, RowRule) and rule.rows.attempts for rule in rules)
        self._seen: Counter[tuple[str, ...]] = Counter()
        self._struck: Counter[int] = Counter()
        self._lock = Lock()

    def at_call(self, kind: str, workspace: str) -> Strike | None:
        """What befalls a call. It counts as struck when `record` is told so: it may fail by itself before."""
        with self._lock:
            ordinal = self._ordinal(workspace, kind)
        for place, rule in self._rules:
            if isinstance(rule, CallRule) and rule.call == kind and _is_meant(rule, workspace, ordinal, kind):
                return Strike(place, rule.do, ordinal)
        return None

    def record(self, strike: Strike) -> None:
        with self._lock:
            self._struck[strike.rule] += 1

    def at_batch(self, workspace: str) -> Fate | None:
        with self._lock:
            ordinal = self._ordinal(workspace, "batch")
            for place, rule in self._rules:
                if isinstance(rule, BatchRule) and _is_meant(rule.batch, workspace, ordinal, "batch"):
                    self._struck[place] += 1
                    return rule.do
        return None

    def at_row(self, workspace: str, row: int, params: dict[str, Any]) -> RowResult | None:
        """What becomes of a row that stands at this place in its batch, counted from 0."""
        if not self._has_rows:
            return None
        messages = params.get("messages")
        said = orjson.dumps(messages).decode()
        with self._lock:
            attempt = self._ordinal(workspace, f"{params.get('model')}{fingerprint(said)}") if self._counts_rows else 1
            for place, rule in self._rules:
                if isinstance(rule, RowRule) and _is_hit(rule, workspace, row + 1, messages, said, attempt):
                    self._struck[place] += 1
                    return rule.result
        return None

    def view(self) -> dict[str, Any]:
        """The rules, as they were given, each with how often it has struck."""
        with self._lock:
            shown = [(as_given(rule), self._struck[place]) for place, rule in self._rules]
        return {"rules": [{"rule": rule, "struck": struck} for rule, struck in shown]}

    def _ordinal(self, *counted: str) -> int:
        self._seen[counted] += 1
        return self._seen[counted]


def _is_meant(which: Which, workspace: str, ordinal: int, kind: str) -> bool:
    return (
        (which.key is None or workspace_of(which.key) == workspace)
        and (which.nth is None or ordinal in which.nth)
        and (which.first is None or ordinal <= which.first)
        and (which.every is None or ordinal % which.every == 0)
        and (which.share is None or _is_drawn(which.share, str(which.seed), kind, str(ordinal)))
    )


def _is_hit(rule: RowRule, workspace: str, place: int, messages: object, said: str, attempt: int) -> bool:
    rows = rule.rows
    return (
        (rows.key is None or workspace_of(rows.key) == workspace)
        and (rows.nth is None or place in rows.nth)
        and (rows.attempts is None or attempt <= rows.attempts)
        and (rows.share is None or _is_drawn(rows.share, str(rows.seed), said))
        and (rows.text is None or any(rows.text in text for text in _texts(messages)))
    )


def _is_drawn(share: float, *parts: str) -> bool:
    return fingerprint(*parts) < share * FINGERPRINTS


def _texts(part: object) -> Iterator[str]:
    """Every text in a row's messages, which nobody has checked yet."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, list | dict):
        for each in part.values() if isinstance(part, dict) else part:
            yield from _texts(each)
