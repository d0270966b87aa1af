"""Chooses the rows to label next. Half are drawn at random: only those show how often a version is right. The others
are those where labels teach most: rows on which tiers disagreed, quarantined rows, and rows unlike all labelled ones.
"""

import hashlib
import heapq
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from rowtide.evals.golden_rows import RANDOM

Stratum = str  # `random`, `disagreement`, `quarantined`, `diverse`
SHARES: dict[Stratum, float] = {"disagreement": 0.25, "quarantined": 0.125, "diverse": 0.125}  # the rest at random
POOL = 20  # times as many rows as are asked for: those among which unlike ones are looked for
WORD = re.compile(r"\w{3,}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that somebody may label."""

    key: str
    values: Mapping[str, object]
    stratum: str = RANDOM


@dataclass
class Smallest:
    """Of all rows that are offered, the `size` whose key has the smallest hash: a sample that needs no second look."""

    size: int
    salt: str
    _heap: list[tuple[int, str, Candidate]] = field(default_factory=list[tuple[int, str, Candidate]])

    def offer(self, row: Candidate) -> None:
        """Keep it if it is among the smallest so far."""
        if not self.size:
            return
        digest = hashlib.blake2b(f"{self.salt}\x1f{row.key}".encode(errors="surrogatepass"), digest_size=8).digest()
        entry = (-int.from_bytes(digest), row.key, row)
        if len(self._heap) < self.size:
            heapq.heappush(self._heap, entry)
        elif entry[0] > self._heap[0][0]:
            heapq.heapreplace(self._heap, entry)

    def rows(self) -> list[Candidate]:
        """What was kept, smallest hash first."""
        return [row for _, _, row in sorted(self._heap, key=lambda entry: -entry[0])]


def choose_rows(
    rows: Iterable[Candidate], wanted: Mapping[str, Stratum], labelled: Collection[str], count: int
) -> list[Candidate]:
    """Return the rows to label next, each key once, those drawn at random first. `rows` may be streamed: about `POOL`
    times `count` of them are kept.

    `wanted` maps the keys of rows that a run found odd to their stratum; `labelled` are the keys that need no label.
    """
    odd: dict[Stratum, Smallest] = {stratum: Smallest(2 * count, stratum) for stratum in SHARES if stratum != "diverse"}
    drawn, pool = Smallest(count, RANDOM), Smallest(count * POOL, "diverse")
    seen = set(labelled)
    for row in rows:
        if row.key in seen:
            continue
        seen.add(row.key)
        drawn.offer(row)
        pool.offer(row)
        if (stratum := wanted.get(row.key)) in odd:
            odd[stratum].offer(Candidate(row.key, row.values, stratum))
    offered: dict[Stratum, list[Candidate]] = {stratum: sample.rows() for stratum, sample in odd.items()}
    most: dict[Stratum, int] = {stratum: round(count * share) for stratum, share in SHARES.items()}
    return _put_together(drawn.rows(), offered, pool.rows(), most, count)


def _put_together(
    drawn: list[Candidate],
    odd: Mapping[Stratum, list[Candidate]],
    pool: list[Candidate],
    most: Mapping[Stratum, int],
    count: int,
) -> list[Candidate]:
    """So many rows of each stratum, the rest at random. The random ones are the first that were drawn, odd or not: one
    that is passed over for being odd would make the others look better than they are."""
    at_random = count - sum(most.values())
    while True:
        chosen = {row.key: row for row in drawn[:at_random]}
        for stratum, rows in odd.items():
            fresh = [row for row in rows if row.key not in chosen]
            chosen |= {row.key: row for row in fresh[: most[stratum]]}
        unlike = _unlike([row for row in pool if row.key not in chosen], most["diverse"])
        chosen |= {row.key: row for row in unlike}
        if len(chosen) >= count or at_random >= len(drawn):
            return list(chosen.values())
        at_random += count - len(chosen)


def _unlike(pool: list[Candidate], count: int) -> list[Candidate]:
    """Rows that each say most words that none before it used."""
    used: set[str] = set()
    words = {row.key: set(WORD.findall(" ".join(map(str, row.values.values())).casefold())) for row in pool}
    found: list[Candidate] = []
    while pool and len(found) < count:
        best = max(pool, key=lambda row: len(words[row.key] - used))
        used |= words[best.key]
        pool = [row for row in pool if row is not best]
        found.append(Candidate(best.key, best.values, "diverse"))
    return found
