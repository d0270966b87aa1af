"""Judges answered rows by the answers gate, page by page."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import orjson

from rowtide.agent.agent import Escalate, GiveUp, Restart, RowAt, after_gate, ask_anew
from rowtide.agent.states import RowState
from rowtide.gates.expectation_counts import ExpectationCounts, failing_rows_of_page, verdicts_of_outcomes
from rowtide.gates.expectation_verdict import ExpectationVerdict
from rowtide.gates.gate_files import Suite
from rowtide.gates.page_judging import PageJudge, PageResult
from rowtide.ledger import gate_results as ledger_gate_results
from rowtide.ledger import quarantine as ledger_quarantine
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger import tiers as ledger_tiers
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.claims import SHARE_ROWS, Share
from rowtide.ledger.rows import MoveReason
from rowtide.stages.run_context import Clock, RunContext
from rowtide.stages.work_shares import claim_shares


def judge_answers(context: RunContext, suite: Suite | None, *, clock: Clock) -> Counter[str]:
    """Judge every answered row that this worker can claim. Returns counts: `accepted`, `escalated`, `quarantined`,
    `restarted`.
    """
    done: Counter[str] = Counter()
    pages: PageJudge | None = None
    for share in claim_shares(context, RowState.ANSWERED):
        page = _page(context, share)
        if suite is None:
            done += _apply(context, page, {}, [], now=clock())
            continue
        pages = pages or PageJudge(suite, suite.of("rows"))
        found = _found(context, pages, page)
        done += _apply(context, page, failing_rows_of_page(found), _verdicts(suite, found, page), now=clock())
    return done


def _apply(
    context: RunContext,
    page: list[RowAt],
    failures: dict[int, list[str]],
    verdicts: Sequence[ExpectationVerdict],
    *,
    now: datetime,
) -> Counter[str]:
    """Commit a page's moves and verdicts. Returns the counts that `judge_answers` sums."""
    accepted = [row for row in page if row.row_no not in failures]
    with context.ledger.view() as tx:
        overridden = ledger_quarantine.rows_with_overridden_answer(tx, list(failures))
    refused = [
        (row, _refusal(context, row, failures[row.row_no], overridden)) for row in page if row.row_no in failures
    ]
    escalating = [(row, move) for row, move in refused if isinstance(move, Escalate)]
    given_up = [(row, move) for row, move in refused if isinstance(move, GiveUp)]
    afresh = [MoveReason(row.row_no, row.turn, m.reason, m.detail) for row, m in refused if isinstance(m, Restart)]
    with context.ledger.page() as tx:
        ledger_rows.accept_rows(tx, [row.row_no for row in accepted])
        ledger_tiers.escalate_up_the_ladder(tx, context.run, context.escalation, escalating, now=now)
        move_reasons = [MoveReason(row.row_no, row.turn, move.reason, move.detail) for row, move in given_up]
        ledger_rows.quarantine_rows(tx, move_reasons, now=now)
        ledger_rows.ask_rows_again(tx, afresh, now=now)
        by_tier = Counter(row.tier for row in accepted), Counter(row.tier for row, _ in given_up)
        ledger_tiers.add_tier_visits(tx, context.run, accepted=by_tier[0], quarantined=by_tier[1])
        ledger_gate_results.add_page_verdicts(tx, context.run, verdicts, now=now)
    return Counter(accepted=len(accepted), escalated=len(escalating), quarantined=len(given_up), restarted=len(afresh))


def _refusal(context: RunContext, row: RowAt, failures: list[str], overridden: set[int]) -> Escalate | Restart | GiveUp:
    move = after_gate(context.job.spec, row, failures)
    if row.version_no in context.earlier_versions and row.row_no not in overridden:
        return ask_anew(context.job.spec, row, move.reason, move.detail)
    return (
        GiveUp(move.reason, move.detail) if row.row_no in overridden else move
    )  # a person's answer goes back to people


def _page(context: RunContext, share: Share) -> list[RowAt]:
    """Return the answered rows of a share, which are judged at once."""
    with context.ledger.view() as tx:
        return ledger_rows.rows_page(
            tx, context.run, RowState.ANSWERED, after=share.first - 1, last=share.last, limit=SHARE_ROWS
        )


def _found(context: RunContext, pages: PageJudge, page: list[RowAt]) -> list[PageResult]:
    with context.ledger.view() as tx:
        answers = ledger_turns.row_answers(tx, [row.row_no for row in page])
    return pages.judge([(row.row_no, orjson.loads(answers[row.row_no])) for row in page])


def _verdicts(suite: Suite, found: Sequence[PageResult], page: list[RowAt]) -> list[ExpectationVerdict]:
    counted = ExpectationCounts(suite.of("rows"))
    counted.add(found, {row.row_no: row.row_key for row in page})
    return verdicts_of_outcomes(suite, counted.outcomes(), {})
