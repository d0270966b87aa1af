"""The distribution of a column's values, counted page by page, as a partition of Great Expectations.

Categories become `values` and `weights`; numbers `bins` of about the same weight each. Memory does not grow with rows.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

CATEGORIES = 200  # a column with more different texts has no categories
LONGEST = 200  # characters of a category
FEW = 20  # different numbers that are taken for categories
BINS = 10
MANY = 5_000  # different numbers, before they are rounded to three digits


class Distribution:
    """The distribution of one column, counted page by page."""

    def __init__(self) -> None:
        self._texts: Counter[str] = Counter()
        self._numbers: Counter[float] = Counter()
        self._least, self._most = float("inf"), float("-inf")
        self._is_rounded = False
        self._is_neither = False  # too many different texts, or lists, or objects

    def add(self, values: Sequence[Any]) -> None:
        """Count one more page of values."""
        if self._is_neither:
            return
        kinds = set(map(type, values))
        known = [value for value in values if value is not None] if type(None) in kinds else values
        if kinds <= {str, type(None)}:
            self._texts.update(known)
        elif kinds <= {int, float, bool, type(None)}:
            self._count(list(map(_plain, known)) if bool in kinds else known)
        else:
            self._is_neither = True
        self._is_neither |= len(self._texts) > CATEGORIES or bool(self._texts and self._numbers)
        if self._is_neither:
            self._texts.clear()
            self._numbers.clear()

    def partition(self) -> dict[str, list[Any]] | None:
        """Return the partition that later runs are compared with; None where there is nothing to compare."""
        counts: Counter[Any] = self._texts or self._numbers
        if self._is_neither or not counts or any(len(text) > LONGEST for text in self._texts):
            return None
        if self._texts or (len(counts) <= FEW and not self._is_rounded):
            total = counts.total()
            return {"values": sorted(counts), "weights": [counts[value] / total for value in sorted(counts)]}
        return self._bins()

    def _count(self, numbers: Sequence[float]) -> None:
        self._numbers.update(numbers)
        self._least, self._most = min([self._least, *numbers]), max([self._most, *numbers])
        if len(self._numbers) > MANY:
            rounded: Counter[float] = Counter()
            for value, count in self._numbers.items():
                rounded[float(f"{value:.3g}")] += count
            self._numbers, self._is_rounded = rounded, True

    def _bins(self) -> dict[str, list[Any]]:
        """Bin edges and weights: a bin is closed when it has its share of all values, so none is empty."""
        values, total = sorted(self._numbers), self._numbers.total()
        edges, weights, inside = [self._least], [], 0
        for value, following in zip(values, [*values[1:], None], strict=True):
            inside += self._numbers[value]
            is_full = inside >= total / BINS and following is not None and edges[-1] < following < self._most
            if is_full or following is None:
                edges.append(self._most if following is None else following)
                weights.append(inside / total)
                inside = 0
        return {"bins": edges, "weights": weights}


def distributions_of(pages: dict[str, Distribution]) -> dict[str, dict[str, list[Any]]]:
    """Return column → its values, or ranges of numbers, with their weights; columns that have none are left out."""
    found = {name: distribution.partition() for name, distribution in pages.items()}
    return {name: partition for name, partition in found.items() if partition is not None}


def _plain(number: float) -> float:
    return int(number) if isinstance(number, bool) else number
