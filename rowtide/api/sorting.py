"""What becomes of each row that was asked, by the outcome of its request: in a batch or live."""

from collections.abc import Sequence

from rowtide.agent.agent import RowAt
from rowtide.agent.policies import RESULTS, Do, Policy
from rowtide.agent.results import Outcome, Replied
from rowtide.errors import StoppedByWorld
from rowtide.ladder.catalogue import Model
from rowtide.ladder.outages import Fallen
from rowtide.ladder.pricing import cost_micro, usage_from
from rowtide.ledger.ledger_batches import Batch
from rowtide.ledger.ledger_outcomes import Sorted
from rowtide.ledger.ledger_rows import Remark
from rowtide.ledger.ledger_turns import Reply
from rowtide.work import Work


def sort(
    work: Work, batch: Batch, models: Sequence[Model], outcomes: list[tuple[RowAt, Outcome]], fallen: Fallen
) -> Sorted:
    """Say what becomes of each row that was asked and had this outcome; `models` are those who were asked."""
    page = Sorted(recalled=list(fallen.recalled), stop=fallen.stop, is_gated=work.job.is_gated)
    for row, outcome in outcomes:
        if isinstance(outcome, Replied):
            page.replies.append(_reply(work, batch, row, outcome, models[work.asked(row)]))
            continue
        if row.row_no in fallen.recalled:
            continue
        policy = _policy(batch, outcome.policy)
        remark = Remark(row.row_no, row.turn, policy.reason, outcome.detail)
        match policy.do:
            case Do.SEND_AGAIN if row.bounces < work.job.spec.limits.bounces:
                page.bounces.append(remark)
            case Do.SEND_AGAIN:
                tried = f"sent {row.bounces + 1} times; the last time: {policy.reason}: {outcome.detail}"
                page.rejects.append(Remark(row.row_no, row.turn, "bounced_out", tried))
            case Do.RECALL:
                page.recalled.append(row.row_no)
            case Do.STOP_RUN:
                page.recalled.append(row.row_no)
                page.stop = f"{outcome.detail} ({policy.why})"
            case _:
                page.rejects.append(remark)
    return page


def refused_by_all(stop: str) -> StoppedByWorld:
    """What to raise when the API refused a row for a reason that every row would meet."""
    return StoppedByWorld(f"the API refuses rows for a reason that all of them would meet: {stop}")


def _policy(batch: Batch, policy: Policy) -> Policy:
    """A row of a batch that we canceled ourselves has not bounced."""
    return RESULTS["canceled_by_us"] if policy is RESULTS["canceled"] and batch.cancel_asked_at else policy


def _reply(work: Work, batch: Batch, row: RowAt, outcome: Replied, model: Model) -> Reply:
    usage = usage_from(outcome.usage)
    tier = work.asked(row)
    return Reply(
        row_no=row.row_no,
        turn=row.turn + 1,
        batch_no=batch.batch_no,
        tier=tier,
        stop_reason=outcome.stop_reason,
        content=outcome.content,
        input_tokens=usage.input_tokens,
        cache_write_tokens=usage.cache_write_5m + usage.cache_write_1h,
        cache_read_tokens=usage.cache_read,
        output_tokens=usage.output_tokens,
        cost_micro=cost_micro(model, usage, lane=batch.lane),
        # One model alone would not have taken a second look.
        baseline_micro=0 if row.checking else cost_micro(work.top, usage, lane="live"),
        kind="check" if row.checking else "answer",
        model=None if model is work.models[tier] else model.alias,
        version_no=row.version_no,
    )
