"""When to cut a batch: how long 100,000 agent rows take by each policy, in simulated time.

`python -m benchmarks.cutting [ROWS] [DRAWS]`. Every row needs one to eight replies; a batch takes one to sixty minutes,
one in thirty up to six hours. How that depends on its size nobody publishes, so both extremes are tried: not at all,
and in proportion, as if the API took rows one after another. The moment to cut is decided by the product's own
`rowtide.api.batch_packing.is_time_to_cut`; only the clock and the API are simulated. Leaves benchmarks-cutting.json.
"""

import heapq
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson

from rowtide.api.batch_packing import is_batch_worth_packing

MINUTES = (1.0, 60.0)  # of an ordinary batch, log-uniform
STRAGGLERS, LONGEST_MINUTES = 1 / 30, 360.0
GOES_ON, MOST_TURNS = 0.6, 8  # the chance that a reply asks for another turn
API_ROWS = 100_000  # the most requests a batch may hold
ORDINARY_ROWS = 10_000  # of the batch that takes as long as was drawn, where time is in proportion to size
EXPIRES_MINUTES = 24 * 60.0
NEVER = sys.maxsize

Numbers = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True)
class Policy:
    """`enough_rows` and `batch_rows` as in job.yaml; `every_minutes` cuts whatever is ready on a timer as well."""

    name: str
    enough_rows: int
    batch_rows: int = API_ROWS
    every_minutes: float = 0.0


POLICIES = (
    Policy("barrier between turns", NEVER),
    Policy("barrier, batches of 10,000", NEVER, 10_000),
    *(Policy(f"{enough:,} ready rows are enough", enough) for enough in (10_000, 1_000, 100, 1)),
    *(Policy(f"{enough:,} enough, batches of 10,000", enough, 10_000) for enough in (10_000, 1_000, 100, 1)),
    *(Policy(f"every {minutes} minutes, of 10,000", NEVER, 10_000, minutes) for minutes in (60, 10)),
)


@dataclass(frozen=True)
class Course:
    """How a run went: hours, and the batches it took. `critical_path` is the longest any row was at the API."""

    makespan: float
    critical_path: float
    nine_tenths: float
    batches: int


def main() -> None:
    rows = int(sys.argv[1].replace(",", "")) if len(sys.argv) > 1 else 100_000
    draws = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    print(f"{rows:,} rows, {draws} draws; hours, as the median and the worst tenth of draws see them")
    figures = {
        "whatever its size": _table("a batch takes as long, whatever its size", rows, draws, by_size=False),
        "by size": _table("a batch takes as long as it is large", rows, draws, by_size=True),
    }
    Path("benchmarks-cutting.json").write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))


def _table(title: str, rows: int, draws: int, *, by_size: bool) -> dict[str, object]:
    figures: dict[str, object] = {}
    print(f"\n{title:<40} {'all done':>14} {'÷ critical path':>16} {'90% done':>10} {'batches':>9}")
    for policy in POLICIES:
        chances = [np.random.default_rng(seed) for seed in range(draws)]
        courses = [course(policy, rows, chance, by_size=by_size) for chance in chances]
        middle, worst = _quantile(courses, 0.5), _quantile(courses, 0.9)
        print(
            f"{policy.name:<40} {middle.makespan:>6.1f} {worst.makespan:>7.1f}"
            f" {middle.makespan / middle.critical_path:>16.2f} {middle.nine_tenths:>10.1f} {middle.batches:>9,}"
        )
        figures[policy.name] = {"median": asdict(middle), "worst_tenth": asdict(worst)}
    return figures


def course(policy: Policy, rows: int, chance: np.random.Generator, *, by_size: bool) -> Course:
    """Take every row to its last reply."""
    turns = np.minimum(chance.geometric(1 - GOES_ON, rows), MOST_TURNS)
    at_api, ended_at = np.zeros(rows), np.zeros(rows)
    ready: Numbers = np.arange(rows)
    open_batches: list[tuple[float, int, Numbers]] = []
    now, in_flight, batches, next_cut = 0.0, 0, 0, policy.every_minutes
    while ready.size or open_batches:
        is_due = bool(policy.every_minutes) and now >= next_cut
        while ready.size and (is_due or _is_time(policy, ready.size, in_flight)):
            sent, ready = ready[: policy.batch_rows], ready[policy.batch_rows :]
            takes = minutes_of_a_batch(chance, sent.size if by_size else ORDINARY_ROWS)
            at_api[sent] += takes
            batches, in_flight = batches + 1, in_flight + sent.size
            heapq.heappush(open_batches, (now + takes, batches, sent))
        if is_due:
            next_cut += policy.every_minutes
        if policy.every_minutes and ready.size and next_cut < open_batches[0][0]:
            now = next_cut
            continue
        now, _, back = heapq.heappop(open_batches)
        in_flight -= back.size
        turns[back] -= 1
        ended_at[back] = now
        ready = np.concatenate([ready, back[turns[back] > 0]])
    hours = 60.0
    nine_tenths = float(np.quantile(ended_at, 0.9))
    return Course(now / hours, float(at_api.max()) / hours, nine_tenths / hours, batches)


def minutes_of_a_batch(chance: np.random.Generator, rows: int) -> float:
    is_straggler = chance.random() < STRAGGLERS
    ordinary = float(np.exp(chance.uniform(*np.log(MINUTES))))
    drawn = float(chance.uniform(MINUTES[1], LONGEST_MINUTES)) if is_straggler else ordinary
    return min(max(drawn * rows / ORDINARY_ROWS, MINUTES[0]), EXPIRES_MINUTES)


def _is_time(policy: Policy, ready: int, in_flight: int) -> bool:
    return is_batch_worth_packing(ready=ready, in_flight=in_flight, enough_rows=policy.enough_rows)


def _quantile(courses: list[Course], share: float) -> Course:
    def of(figure: Callable[[Course], float]) -> float:
        return float(np.quantile([figure(each) for each in courses], share))

    return Course(
        of(lambda each: each.makespan),
        of(lambda each: each.critical_path),
        of(lambda each: each.nine_tenths),
        round(of(lambda each: each.batches)),
    )


if __name__ == "__main__":
    main()
