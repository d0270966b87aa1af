"""Classifies each row's outcome, from a batch or a live call, into what happens to the row."""

from collections.abc import Sequence

from rowtide.agent.agent import Escalate, RowAt
from rowtide.agent.outcome_policies import RESULTS, Do, Policy
from rowtide.agent.reply_parsing import Outcome, Replied, Unanswered
from rowtide.agent.shared_fault import FailedRow, rows_failed_by_shared_fault
from rowtide.agent.states import RunStop
from rowtide.job.job_spec import JobSpec
from rowtide.lanes.lane_table import LANES, LIVE
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.batches import Batch
from rowtide.ledger.outcomes import ClassifiedPage, StopReason
from rowtide.ledger.rows import MoveReason
from rowtide.ledger.turns import Reply
from rowtide.stages.run_context import RunContext
from rowtide.stages.wait.unavailable_models import FallbackPage
from rowtide.tiers.catalogue import Model
from rowtide.tiers.pricing import Usage, cost_micro

NOTHING_KNOWN = Usage(0, 0)  # stands for an unknown usage, whose cost stays reserved
COUNTS = frozenset({"rejected", "bounced_out"})  # quarantine reasons that come from the API


def decide_outcomes(
    context: RunContext,
    batch: Batch,
    models: Sequence[Model],
    outcomes: list[tuple[RowAt, Outcome]],
    fallen: FallbackPage,
) -> ClassifiedPage:
    """Return the page of outcomes sorted by what happens to each row; `models` are those that were asked."""
    page = ClassifiedPage(recalled=list(fallen.recalled), is_gated=context.job.is_gated)
    page.stop = StopReason(RunStop.REFUSED, fallen.stop) if fallen.stop else None
    page.of_unknown_cost = [row.row_no for row, outcome in outcomes if is_of_unknown_cost(outcome)]
    for row, outcome in outcomes:
        if isinstance(outcome, Replied):
            page.replies.append(_reply(context, batch, row, outcome, models[context.asked(row)]))
            page.made_up += [MoveReason(row.row_no, row.turn + 1, "made_up", each) for each in outcome.made_up]
        elif row.row_no not in fallen.recalled:
            _sort_unanswered(context.job.spec, page, row, outcome, _policy(batch, outcome.policy))
    _pardon(context, page, [row for row, _ in outcomes])
    return page


def will_be_quarantined(spec: JobSpec, row: RowAt, outcome: Outcome) -> bool:
    """Return whether the row would be quarantined for the API's outcome."""
    if isinstance(outcome, Replied):
        return False
    can_go_again = outcome.policy.do is Do.SEND_AGAIN and row.bounces < spec.limits.bounces
    return not can_go_again and outcome.policy.do in (Do.SEND_AGAIN, Do.QUARANTINE)


def is_of_unknown_cost(outcome: Outcome) -> bool:
    """Return whether the request's cost is unknown."""
    return outcome.usage is None if isinstance(outcome, Replied) else outcome.is_billed


def _sort_unanswered(spec: JobSpec, page: ClassifiedPage, row: RowAt, outcome: Unanswered, policy: Policy) -> None:
    move_reason = MoveReason(row.row_no, row.turn, policy.reason, outcome.detail)
    match policy.do:
        case Do.SEND_AGAIN if row.bounces < spec.limits.bounces:
            page.bounces.append(move_reason)
        case Do.SEND_AGAIN:
            tried = f"sent {row.bounces + 1} times; the last time: {policy.reason}: {outcome.detail}"
            page.rejects.append(MoveReason(row.row_no, row.turn, "bounced_out", tried))
        case Do.RECALL:
            page.recalled.append(row.row_no)
        case Do.STOP_RUN:
            page.recalled.append(row.row_no)
            page.stop = StopReason(RunStop.REFUSED, f"{outcome.detail} ({policy.why})")
        case Do.ESCALATE if row.tier + 1 < len(spec.tiers):
            page.escalations.append((row, Escalate(policy.reason, outcome.detail)))
        case _:
            page.rejects.append(move_reason)


def _pardon(context: RunContext, page: ClassifiedPage, rows: Sequence[RowAt]) -> None:
    """Pardon rows that failed by a fault shared by all, and stop the run instead."""
    at = {row.row_no: row for row in rows}

    def about(row_no: int) -> tuple[int, int]:
        return context.asked(at[row_no]), at[row_no].prefix_no

    failed = [FailedRow(each.row_no, about(each.row_no), each.detail) for each in page.rejects if each.reason in COUNTS]
    if not failed:
        return
    answered = {about(reply.row_no) for reply in page.replies}
    with context.ledger.view() as tx:
        groups = {each.about for each in failed} - answered
        before = {each for each in groups if ledger_turns.has_model_answered(tx, context.run, *each)}
    if found := rows_failed_by_shared_fault(failed, answered, before, enough=context.job.spec.limits.same_errors):
        everyones = {each.row_no for each in found}
        page.rejects = [each for each in page.rejects if each.row_no not in everyones]
        page.pardoned += sorted(everyones)
        page.stop = page.stop or StopReason(RunStop.SAME_ERROR, found[0].message)


def _policy(batch: Batch, policy: Policy) -> Policy:
    """Return the policy; a row of a batch that we canceled ourselves has not bounced."""
    return RESULTS["canceled_by_us"] if policy is RESULTS["canceled"] and batch.cancel_asked_at else policy


def _reply(context: RunContext, batch: Batch, row: RowAt, outcome: Replied, model: Model) -> Reply:
    usage = outcome.usage or NOTHING_KNOWN
    tier = context.asked(row)
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
        cost_micro=cost_micro(model, usage, lane=LANES[batch.lane]),
        # One model alone would not have taken a self-check.
        baseline_micro=0 if row.in_self_check else cost_micro(context.top, usage, lane=LIVE),
        kind="check" if row.in_self_check else "answer",
        model=None if model is context.models[tier] else model.alias,
        version_no=row.version_no,
    )
