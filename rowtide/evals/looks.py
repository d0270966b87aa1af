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
    """The numbers of rows after which an eval looks, and the significance level of each look."""

    rows: tuple[int, ...]
    alpha: float
    """The significance level of one look; all looks together have at most the planned level."""

    @property
    def last(self) -> int:
        """The rows after which nothing more is asked."""
        return self.rows[-1] if self.rows else 0


def plan_looks(rows: int, alpha: float, at: Sequence[int] = LOOKS) -> LookPlan:
    """Return the looks that `rows` rows allow. `alpha` is divided equally among them (Bonferroni's bound).

    480 rows or more allow all four looks. Fewer allow those they reach, and one after all rows, which replaces a look
    just before it. Without rows there are no looks.
    """
    if rows <= 0:
        return LookPlan((), alpha)
    last = min(rows, max(at))
    planned = (*(each for each in sorted(at) if each * LAST_STEP <= last), last)
    return LookPlan(planned, alpha / len(planned))


def row_order(groups: Mapping[str, str], seed: int) -> list[str]:
    """Return the keys of `groups` (key → group) in the order in which they are asked.

    The seed fixes the order, whatever the order of the keys. Each group is spread evenly: among the first n of N rows,
    a group of m rows has m·n/N, give or take 1 and its share of the number of groups.
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
    """Return the significance level of verdict number `use` (from 1) on a golden set since its last refresh:
    alpha·6/(π²k²).

    The levels of all verdicts there will ever be add up to `alpha`. Raises ValueError for a use below 1.
    """
    if use < 1:
        raise ValueError(f"uses are counted from 1 on, not {use}")
    return alpha / (ALL_USES * use**2)


def alpha_left(uses: int, alpha: float) -> float:
    """Return how much of the golden set's level is left after so many verdicts."""
    return max(0.0, alpha - sum(alpha_of_use(use, alpha) for use in range(1, uses + 1)))


def _number(seed: int, purpose: str, key: str) -> int:
    """64 bits that look random. Half a surrogate pair is a key too."""
    content = f"{seed} {purpose} {key}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())
