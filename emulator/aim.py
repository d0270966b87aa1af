"""Choose which calls, rows and batches the rules of a fault plan apply to, and count the applications.

Everything is drawn from seeds and counted from when the plan was loaded, so a plan does the same to the same work.
Calls and rows are looked at in several threads: counting happens under one lock.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import Any

import orjson

from emulator.acts import Act, Break
from emulator.clock import Clock
from emulator.identifiers import fingerprint, workspace_of
from emulator.plan import BatchRule, CallRule, Fate, RowResult, RowRule, Rule, Which, Window, as_given

# The size of what `fingerprint` gives.
FINGERPRINTS = 1 << 136


@dataclass(frozen=True, slots=True)
class Strike:
    """The fault of one call: the rule that demands it, and the call's ordinal in its account."""

    rule: int
    act: Act
    ordinal: int
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the body of a call asks for."""

    model: str | None = None
    is_stream: bool = False


NOTHING_ASKED = Asked()


@dataclass(frozen=True, slots=True)
class Row:
    """A row as rules see it: its position, and its ordinals, all from 1."""

    place: int
    ordinal: int
    of_model: int
    attempt: int
    model: object
    messages: object
    said: str


class Aim:
    def __init__(self, rules: Sequence[Rule] = (), clock: Clock | None = None) -> None:
        self._rules = list(enumerate(rules))
        self._clock = clock or Clock()
        self._loaded_at = self._clock.now()
        self.reads_bodies = any(isinstance(rule, CallRule) and _reads_body(rule) for rule in rules)
        """Whether it matters what a call's body asks for."""
        self._has_rows = any(isinstance(rule, RowRule) for rule in rules)
        self._counts_rows = any(isinstance(rule, RowRule) and rule.rows.attempts for rule in rules)
        self._seen: Counter[tuple[str, ...]] = Counter()
        self._struck: Counter[int] = Counter()
        self._lock = Lock()

    def at_call(self, kind: str, workspace: str, asked: Asked = NOTHING_ASKED) -> Strike | None:
        """What befalls a call. It counts as struck when `record` is told so: it may fail by itself before."""
        with self._lock:
            ordinal = self._ordinal(workspace, kind)
            of_model = self._ordinal(workspace, kind, f"model {asked.model}") if asked.model else 0
        for place, rule in self._rules:
            if not isinstance(rule, CallRule) or rule.call != kind or not _fits(rule, asked):
                continue
            if self._is_now(rule) and _is_meant(rule, workspace, of_model if rule.model else ordinal, kind):
                return Strike(place, rule.do, ordinal, asked.model)
        return None

    def record(self, strike: Strike) -> None:
        with self._lock:
            self._struck[strike.rule] += 1

    def at_batch(self, workspace: str) -> Fate | None:
        with self._lock:
            ordinal = self._ordinal(workspace, "batch")
            for place, rule in self._rules:
                if not isinstance(rule, BatchRule) or not self._is_now(rule.batch):
                    continue
                if _is_meant(rule.batch, workspace, ordinal, "batch"):
                    self._struck[place] += 1
                    return rule.do
        return None

    def at_row(self, workspace: str, row: int, params: dict[str, Any]) -> RowResult | None:
        """What becomes of a row that stands at this place in its batch, counted from 0."""
        if not self._has_rows:
            return None
        messages, model = params.get("messages"), params.get("model")
        said = orjson.dumps(messages).decode()
        with self._lock:
            attempt = self._ordinal(workspace, f"{model}{fingerprint(said)}") if self._counts_rows else 1
            ordinal, of_model = self._ordinal(workspace, "rows"), self._ordinal(workspace, "rows", f"model {model}")
            seen = Row(row + 1, ordinal, of_model, attempt, model, messages, said)
            for place, rule in self._rules:
                if isinstance(rule, RowRule) and self._is_now(rule.rows) and _is_hit(rule, workspace, seen):
                    self._struck[place] += 1
                    return rule.result
        return None

    def view(self) -> dict[str, Any]:
        """The rules, as they were given, each with how often it has struck."""
        with self._lock:
            shown = [(as_given(rule), self._struck[place]) for place, rule in self._rules]
        return {"rules": [{"rule": rule, "struck": struck} for rule, struck in shown]}

    def _is_now(self, window: Window) -> bool:
        since = self._clock.now() - self._loaded_at - timedelta(seconds=window.after_seconds)
        lasts = window.for_seconds
        return since >= timedelta() and (lasts is None or since < timedelta(seconds=lasts))

    def _ordinal(self, *counted: str) -> int:
        self._seen[counted] += 1
        return self._seen[counted]


def _reads_body(rule: CallRule) -> bool:
    return rule.model is not None or isinstance(rule.do, Break)


def _fits(rule: CallRule, asked: Asked) -> bool:
    """Whether a call asks for the model a rule speaks of, and for a stream if the rule breaks one."""
    return rule.model in (None, asked.model) and (asked.is_stream or not isinstance(rule.do, Break))


def _is_meant(which: Which, workspace: str, ordinal: int, kind: str) -> bool:
    return (
        (which.key is None or workspace_of(which.key) == workspace)
        and (which.nth is None or ordinal in which.nth)
        and (which.first is None or ordinal <= which.first)
        and (which.every is None or ordinal % which.every == 0)
        and (which.share is None or _is_drawn(which.share, str(which.seed), kind, str(ordinal)))
    )


def _is_hit(rule: RowRule, workspace: str, row: Row) -> bool:
    rows = rule.rows
    ordinal = row.of_model if rows.model else row.ordinal
    return (
        (rows.key is None or workspace_of(rows.key) == workspace)
        and (rows.model is None or rows.model == row.model)
        and (rows.nth is None or row.place in rows.nth)
        and (rows.first is None or ordinal <= rows.first)
        and (rows.every is None or ordinal % rows.every == 0)
        and (rows.attempts is None or row.attempt <= rows.attempts)
        and (rows.share is None or _is_drawn(rows.share, str(rows.seed), row.said))
        and (rows.text is None or any(rows.text in text for text in _texts(row.messages)))
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
