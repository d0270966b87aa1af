"""Plan the looks of an eval: after how many rows, in which order of rows, and at which significance level.

Looking again and again finds something by chance, so looks are planned before the first row is asked, and share the
level among them. So do the uses of a set: a set that has been asked often enough proves nothing any more.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LOOKS = (60, 120, 240, 480)  # rows at which an eval may stop
LAST_STEP = 1.25  # a look at so many times the rows of the one before, or fewer, tells little more than it
ALL_USES = math.pi**2 / 6  # the sum of 1/k² over all k from 1 on


@dataclass(frozen=True, slots=True)
class LookPlan:
    """After how many rows an eval looks, and the level of each of these looks."""

    rows: tuple[int, ...]
    alpha: float
    """Of one look. All of them together have at most the level that was planned for."""

    @property
    def last(self) -> int:
        """The rows after which nothing more is asked."""
        return self.rows[-1] if self.rows else 0


def plan_looks(rows: int, alpha: float, at: Sequence[int] = LOOKS) -> LookPlan:
    """The looks that `rows` rows allow, with `alpha` shared alike among them (Bonferroni's bound).

    480 rows or more have all four. Fewer have those they reach, and one at the end of all rows, which takes the place
    of a look just before it. No rows, no looks.
    """
    if rows <= 0:
        return LookPlan((), alpha)
    last = min(rows, max(at))
    planned = (*(each for each in sorted(at) if each * LAST_STEP <= last), last)
    return LookPlan(planned, alpha / len(planned))


def row_order(groups: Mapping[str, str], seed: int) -> list[str]:
    """The keys of `groups` (key → group) in the order in which they are asked.

    The order is fixed by the seed, and is the same however the keys come. Each group is spread over it evenly: among
    the first n of N rows, a group of m rows has m·n/N, give or take 1 and its share of the number of groups.
    """
    members: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for key, group in groups.items():
        members[group].append((_number(seed, "order", key), key))
    places: list[tuple[float, str]] = []
    for each in members.values():
        for rank, (_, key) in enumerate(sorted(each)):
            jitter = _number(seed, "place", key) / 2**64
            places.append(((rank + jitter) / len(each), key))
    return [key for _, key in sorted(places)]


def alpha_of_use(use: int, alpha: float) -> float:
    """The level of the `use`-th verdict on a set since its last refresh, from 1 on: alpha·6/(π²k²).

    All verdicts there will ever be have `alpha` together. Raises ValueError for a use that is below 1.
    """
    if use < 1:
        raise ValueError(f"uses are counted from 1 on, not {use}")
    return alpha / (ALL_USES * use**2)


def alpha_left(uses: int, alpha: float) -> float:
    """What is left of the level of a set, after so many verdicts."""
    return max(0.0, alpha - sum(alpha_of_use(use, alpha) for use in range(1, uses + 1)))


def _number(seed: int, purpose: str, key: str) -> int:
    """64 bits that look random. Half a surrogate pair is a key too."""
    content = f"{seed} {purpose} {key}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
