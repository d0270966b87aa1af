"""Judging answered rows by the answers gate, page by page: what it says of single rows."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import orjson

from rowtide.agent.agent import Escalate, GiveUp, Restart, RowAt, after_gate, ask_anew
from rowtide.gates.gates import Suite
from rowtide.gates.pages import Found, Pages
from rowtide.gates.tallies import Tallies, as_verdicts, failing_rows
from rowtide.ledger import ledger_gates, ledger_ladder, ledger_quarantine, ledger_rows, ledger_turns
from rowtide.ledger.ledger_claims import SHARE_ROWS, Share
from rowtide.ledger.ledger_gates import Verdict
from rowtide.ledger.ledger_rows import Remark
from rowtide.ledger.states import RowState
from rowtide.sharing import shares
from rowtide.work import Clock, Work


def judge_answers(work: Work, suite: Suite | None, *, clock: Clock) -> Counter[str]:
    """Judge every answered row that this worker can claim. Returns how many were `accepted`, `climbed` a tier and
    were `set_aside`."""
    done: Counter[str] = Counter()
    pages: Pages | None = None
    for share in shares(work, RowState.ANSWERED):
        page = _page(work, share)
        if suite is None:
            done += _apply(work, page, {}, [], now=clock())
            continue
        pages = pages or Pages(suite, suite.of("rows"))
        found = _found(work, pages, page)
        done += _apply(work, page, failing_rows(found), _verdicts(suite, found, page), now=clock())
    return done


def _apply(
    work: Work, page: list[RowAt], failures: dict[int, list[str]], verdicts: Sequence[Verdict], *, now: datetime
) -> Counter[str]:
    """Commit a page's moves, and what was said of it. Returns how many were accepted, climbed and were set aside."""
    accepted = [row for row in page if row.row_no not in failures]
    with work.ledger.view() as tx:
        vouched = ledger_quarantine.vouched(tx, list(failures))
    refused = [(row, _refusal(work, row, failures[row.row_no], vouched)) for row in page if row.row_no in failures]
    climbing = [(row, move) for row, move in refused if isinstance(move, Escalate)]
    given_up = [(row, move) for row, move in refused if isinstance(move, GiveUp)]
    afresh = [Remark(row.row_no, row.turn, m.reason, m.detail) for row, m in refused if isinstance(m, Restart)]
    with work.ledger.page() as tx:
        ledger_rows.accept(tx, [row.row_no for row in accepted])
        ledger_ladder.climb(tx, work.run, work.job.spec, climbing, now=now)
        remarks = [Remark(row.row_no, row.turn, move.reason, move.detail) for row, move in given_up]
        ledger_rows.quarantine(tx, remarks, now=now)
        ledger_rows.restart(tx, afresh, now=now)
        by_tier = Counter(row.tier for row in accepted), Counter(row.tier for row, _ in given_up)
        ledger_ladder.count_stays(tx, work.run, accepted=by_tier[0], set_aside=by_tier[1])
        ledger_gates.add(tx, work.run, verdicts, now=now)
    return Counter(accepted=len(accepted), climbed=len(climbing), set_aside=len(given_up), restarted=len(afresh))


def _refusal(work: Work, row: RowAt, failures: list[str], vouched: set[int]) -> Escalate | Restart | GiveUp:
    move = after_gate(work.job.spec, row, failures)
    if row.version_no in work.earlier_versions and row.row_no not in vouched:
        return ask_anew(work.job.spec, row, move.reason, move.detail)
    return GiveUp(move.reason, move.detail) if row.row_no in vouched else move  # a person answered: back to people


def _page(work: Work, share: Share) -> list[RowAt]:
    """The answered rows of a share: as many as are judged at once."""
    with work.ledger.view() as tx:
        return ledger_rows.page_of(
            tx, work.run, RowState.ANSWERED, after=share.first - 1, last=share.last, limit=SHARE_ROWS
        )


def _found(work: Work, pages: Pages, page: list[RowAt]) -> list[Found]:
    with work.ledger.view() as tx:
        answers = ledger_turns.answers(tx, [row.row_no for row in page])
    return pages.judge([(row.row_no, orjson.loads(answers[row.row_no])) for row in page])


def _verdicts(suite: Suite, found: Sequence[Found], page: list[RowAt]) -> list[Verdict]:
    tallies = Tallies(suite.of("rows"))
    tallies.add(found, {row.row_no: row.row_key for row in page})
    return as_verdicts(suite, tallies.outcomes(), {})
