"""The emulator's bill, to compare with the product's own accounts."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emulator.models import MODELS
from emulator.prices import cost_micro

COUNTED = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


class Bill:
    """Tokens, answered requests and what they cost, by model. Only succeeded rows are ever entered."""

    def __init__(self, lines: Mapping[str, Mapping[str, int]] | None = None) -> None:
        self.lines = {model: Counter(line) for model, line in (lines or {}).items()}

    def enter(self, message: Mapping[str, Any]) -> None:
        line = self.lines.setdefault(message["model"], Counter())
        usage = message["usage"]
        model = MODELS[message["model"]]
        line["requests"] += 1
        line["cost_micro"] += cost_micro(model.price, model.price_above_100k, usage)
        for name in COUNTED:
            line[name] += usage[name]
        line["cache_creation_5m"] += usage["cache_creation"]["ephemeral_5m_input_tokens"]
        line["cache_creation_1h"] += usage["cache_creation"]["ephemeral_1h_input_tokens"]

    def add(self, other: "Bill") -> None:
        for model, line in other.lines.items():
            self.lines.setdefault(model, Counter()).update(line)

    def view(self) -> dict[str, Any]:
        total: Counter[str] = Counter(dict.fromkeys(("requests", "cost_micro", *COUNTED), 0))
        for line in self.lines.values():
            total.update(line)
        return {**total, "by_model": {model: dict(line) for model, line in sorted(self.lines.items())}}


def sum_of(bills: Iterable[Bill]) -> Bill:
    total = Bill()
    for bill in bills:
        total.add(bill)
    return total


@dataclass(frozen=True, slots=True)
class Account:
    """What one workspace did: how many batches it made, and the bills of those that have ended and of direct calls."""

    workspace: str
    batches_created: int
    batches: Mapping[str, Bill]
    whole: Bill
    """Of direct calls that were answered in one piece."""
    streamed: Bill

    @property
    def direct(self) -> Bill:
        return sum_of([self.whole, self.streamed])

    def total(self) -> Bill:
        return sum_of([*self.batches.values(), self.direct])

    def view(self) -> dict[str, Any]:
        counted = {"batches_created": self.batches_created, "batches": len(self.batches)}
        return {"workspace": self.workspace, **counted, **self.total().view(), "by_lane": by_lane([self])}


def by_lane(accounts: Sequence[Account]) -> dict[str, Any]:
    """The bills by how replies were asked for: in batches at half price, or directly, whole or streamed."""
    lanes = {
        "batch": sum_of(bill for account in accounts for bill in account.batches.values()),
        "live": sum_of(account.whole for account in accounts),
        "stream": sum_of(account.streamed for account in accounts),
    }
    return {lane: bill.view() for lane, bill in lanes.items()}
