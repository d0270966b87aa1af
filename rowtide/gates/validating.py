"""Judging answered rows by the answers gate, page by page."""

from collections import Counter
from datetime import datetime

import orjson
import pandas as pd

from rowtide.agent.agent import Escalate, GiveUp, RowAt, after_gate
from rowtide.gates.gates import Suite, judge
from rowtide.ledger import ledger_ladder, ledger_quarantine, ledger_rows, ledger_turns
from rowtide.ledger.ledger_rows import Remark
from rowtide.ledger.states import RowState
from rowtide.work import Clock, Work, fields_of

PAGE_ROWS = 10_000


def judge_answers(work: Work, suite: Suite | None, *, clock: Clock) -> Counter[str]:
    """Judge every answered row. Returns how many were `accepted`, `climbed` a tier and were `set_aside`."""
    done: Counter[str] = Counter()
    after = 0
    while page := _page(work, after):
        after = page[-1].row_no
        failures = _failures(work, suite, page) if suite else {}
        done += _apply(work, page, failures, now=clock())
    return done


def _apply(work: Work, page: list[RowAt], failures: dict[int, list[str]], *, now: datetime) -> Counter[str]:
    """Commit a page's moves. Returns how many were accepted, climbed and were set aside."""
    accepted = [row for row in page if row.row_no not in failures]
    with work.ledger.view() as tx:
        vouched = ledger_quarantine.vouched(tx, list(failures))
    refused = [(row, _refusal(work, row, failures[row.row_no], vouched)) for row in page if row.row_no in failures]
    climbing = [(row, move) for row, move in refused if isinstance(move, Escalate)]
    given_up = [(row, move) for row, move in refused if isinstance(move, GiveUp)]
    with work.ledger.page() as tx:
        ledger_rows.accept(tx, [row.row_no for row in accepted])
        ledger_ladder.climb(tx, work.run, work.job.spec, climbing, now=now)
        remarks = [Remark(row.row_no, row.turn, move.reason, move.detail) for row, move in given_up]
        ledger_rows.quarantine(tx, remarks, now=now)
        by_tier = Counter(row.tier for row in accepted), Counter(row.tier for row, _ in given_up)
        ledger_ladder.count_stays(tx, work.run, accepted=by_tier[0], set_aside=by_tier[1])
    return Counter(accepted=len(accepted), climbed=len(climbing), set_aside=len(given_up))


def _refusal(work: Work, row: RowAt, failures: list[str], vouched: set[int]) -> Escalate | GiveUp:
    move = after_gate(work.job.spec, row, failures)
    return GiveUp(move.reason, move.detail) if row.row_no in vouched else move  # a person answered: back to people


def _page(work: Work, after: int) -> list[RowAt]:
    with work.ledger.view() as tx:
        return ledger_rows.page_of(tx, work.run, RowState.ANSWERED, after=after, limit=PAGE_ROWS)


def _failures(work: Work, suite: Suite, page: list[RowAt]) -> dict[int, list[str]]:
    with work.ledger.view() as tx:
        answers = ledger_turns.answers(tx, [row.row_no for row in page])
    records = [{"row_no": row.row_no, **orjson.loads(answers[row.row_no])} for row in page]
    return judge(suite, pd.DataFrame.from_records(records, columns=["row_no", *fields_of(work.job.answer)])).failures
