"""Decides where rows start: by the rules of `start`, else by estimate, else on the lowest tier."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import orjson

from rowtide.job.job_folder import Job
from rowtide.ledger.routes import RowStart
from rowtide.routing.difficulty import Router, estimate_start, fits_ladder, read_router
from rowtide.routing.features import Values
from rowtide.routing.start_rules import RuleMatcher, compile_rules, open_rule_matcher, tier_of_rule


@contextmanager
def open_starter(job: Job, api: str) -> Generator["Starter"]:
    """Yield a Starter for the job. The rules' columns were checked with the source.

    A router fitted for another ladder or another API is ignored.
    """
    start, router = job.spec.start, read_router(job.folder)
    tiers = [tier_of_rule(rule, number, job.spec.tiers, job.folder) for number, rule in enumerate(start)]
    if router and (not fits_ladder(router, job.spec.tiers) or router.api not in ("", api)):
        router = None
    if not start:
        yield Starter(job, tiers, None, router)
        return
    with open_rule_matcher(compile_rules(start, None, job.folder), job.folder) as asker:
        yield Starter(job, tiers, asker, router)


@dataclass(frozen=True, slots=True)
class Starter:
    """Decides where rows start from the row's values alone, so a second attempt decides the same."""

    job: Job
    tiers: list[int]
    asker: RuleMatcher | None
    router: Router | None

    def starts(self, rows: Sequence[tuple[int, Values]]) -> list[RowStart]:
        """Return how each of these rows (row_no, values) starts."""
        matches = self.asker.first_matches([row for _, row in rows]) if self.asker and rows else [None] * len(rows)
        return [self._start(row_no, row, match) for (row_no, row), match in zip(rows, matches, strict=True)]

    def _start(self, row_no: int, row: Values, match: int | None) -> RowStart:
        if match is not None:
            rule = self.job.spec.start[match - 1]
            return RowStart(row_no, self.tiers[match - 1], rule.effort, rule.turns, match)
        if self.router is None:
            return RowStart(row_no, 0)
        found = estimate_start(self.router, row)
        chances, why = orjson.dumps(found.chances).decode(), orjson.dumps(found.why).decode()
        return RowStart(row_no, found.tier_no, rule=0, chances=chances, why=why)
