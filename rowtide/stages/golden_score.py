"""Counts how many of a run's rows with a golden answer came out right."""

from dataclasses import dataclass

import orjson

from rowtide.errors import UserMistake
from rowtide.evals.job_golden import read_job_golden
from rowtide.ledger.read.row_answers import row_answers
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
        found = row_answers(tx, context.run, golden.rows)
    answers = {each.row_key: orjson.loads(each.content) for each in found if each.content is not None}
    quarantined = sum(each.state == "quarantined" for each in found)
    if not answers and not quarantined:
        return None
    right = sum(golden.is_right(key, answer) for key, answer in answers.items())
    return GoldenScore(len(answers) + quarantined, right, quarantined)
