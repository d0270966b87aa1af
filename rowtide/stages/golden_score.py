"""Counts how many of a run's rows with a golden answer came out right."""

from dataclasses import dataclass

import orjson

from rowtide.errors import UserMistake
from rowtide.evals.job_golden import JobGolden, read_job_golden
from rowtide.ledger.read.row_answers import RowAnswer, row_answers
from rowtide.observing.event_log import logger
from rowtide.stages.run_context import RunContext

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class GoldenScore:
    """The golden rows that a run has settled."""

    rows: int
    right: int
    """Accepted, and every golden field agrees by the job's comparers."""
    quarantined: int
    """Not accepted, and so neither right nor wrong."""

    @property
    def wrong(self) -> int:
        return self.rows - self.right - self.quarantined


def golden_score(context: RunContext) -> GoldenScore | None:
    """Score the run's golden rows; None where it settled none. A golden file that cannot be read is logged."""
    try:
        golden = read_job_golden(context.job)
    except UserMistake as mistake:
        log.warning("no row is compared with its golden answer: %s", mistake)
        return None
    if not golden.rows:
        return None
    with context.ledger.view() as tx:
        settled = row_answers(tx, context.run, golden.rows)
    return score_golden(golden, settled) if settled else None


def score_golden(golden: JobGolden, settled: list[RowAnswer]) -> GoldenScore:
    """Score rows whose golden answers are known."""
    accepted = [each for each in settled if each.content is not None]
    right = sum(golden.is_right(each.row_key, orjson.loads(each.content or b"")) for each in accepted)
    return GoldenScore(len(settled), right, len(settled) - len(accepted))
