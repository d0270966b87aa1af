"""Whether a run passes its gates: rows before a cent is spent, all its answers, and what is about to be loaded.

Row-level failures of the rows gate are quarantined here, those of the answers gate in `validating`. What fails over the
whole run is returned: whoever asked decides what waits.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from rowtide.gates.data_docs import write_docs
from rowtide.gates.facts import values_of
from rowtide.gates.gates import Suite
from rowtide.gates.holds import Failure
from rowtide.gates.pages import Found, Pages
from rowtide.gates.spreads import Spread, spreads_of
from rowtide.gates.tallies import Tallies, as_verdicts, failing_rows, failures_in
from rowtide.gates.whole import judge_whole, scratch
from rowtide.ledger import ledger_gates, ledger_rows
from rowtide.ledger.ledger_gates import Judged, Verdict
from rowtide.ledger.ledger_rows import Remark
from rowtide.sinks.sinks import open_sink
from rowtide.work import Clock, Work, fields_of, load_gate

PAGE_ROWS = 5000

Turner = Callable[[int], list[Judged]]  # the page after a row's number
Parameters = Mapping[str, Any]


def judge_rows(work: Work, *, clock: Clock) -> list[Failure]:
    """Judge the rows that came in, and quarantine those that fail by themselves. Returns what fails over all of them.

    Judging again changes nothing but what has changed.
    """
    suite = load_gate(work.job, "rows")
    if suite is None:
        return []

    def set_aside(page: Sequence[Judged], found: Sequence[Found]) -> None:
        _quarantine(work, page, failing_rows(found), clock)

    verdicts = _judge(work, suite, _rows_of(work), {}, _parameters(work, {}), set_aside)
    return _settle(work, suite, verdicts, clock)


def judge_load(work: Work, *, clock: Clock) -> list[Failure]:
    """Judge all answers that were accepted, and those about to be loaded. Returns what fails over all of them."""
    failures: list[Failure] = []
    if answers := load_gate(work.job, "answers"):
        verdicts = _judge(work, answers, _answers_of(work, "accepted", "loaded"), {}, _parameters(work, {}))
        failures += _settle(work, answers, verdicts, clock)
    if load := load_gate(work.job, "load"):
        facts = _facts(work)
        verdicts = _judge(work, load, _answers_of(work, "accepted"), facts, _parameters(work, facts))
        failures += _settle(work, load, verdicts, clock)
    return failures


def remember_spread(work: Work) -> None:
    """Keep how the values of the run's answers are spread, for later runs to be compared with."""
    spreads = {name: Spread() for name in fields_of(work.job.answer)}
    for page in _pages(_answers_of(work, "accepted", "loaded")):
        answers = [orjson.loads(each.content) for each in page]
        for name, spread in spreads.items():
            spread.add([answer.get(name) for answer in answers])
    with work.ledger.page() as tx:
        ledger_gates.remember_spreads(tx, work.run, spreads_of(spreads))


def _judge(
    work: Work,
    suite: Suite,
    turner: Turner,
    facts: Mapping[str, float],
    parameters: Parameters,
    each_page: Callable[[Sequence[Judged], Sequence[Found]], None] = lambda page, found: None,
) -> list[Verdict]:
    """Judge what a gate says of a run in one pass over its rows. The answers gate's row-level part is done already."""
    paged = suite.of("shares") if suite.gate == "answers" else suite.of("rows", "shares")
    whole = suite.of("whole")
    tallies = Tallies(paged)
    with scratch(work.spool(f"gate-{suite.gate}.db"), whole) as table:
        if paged or whole:
            pages = Pages(suite, paged)
            for page in _pages(turner):
                values = [orjson.loads(each.content) for each in page]
                found = pages.judge([(each.row_no, value) for each, value in zip(page, values, strict=True)])
                tallies.add(found, {each.row_no: each.row_key for each in page})
                each_page(page, found)
                if whole:
                    table.add([(each.row_key, value) for each, value in zip(page, values, strict=True)])
        table.finish(facts)
        outcomes = tallies.outcomes() + judge_whole(suite, suite.of("whole", "facts"), table, parameters)
    return as_verdicts(suite, sorted(outcomes, key=lambda each: each.expectation.place), facts)


def _settle(work: Work, suite: Suite, verdicts: Sequence[Verdict], clock: Clock) -> list[Failure]:
    """Write verdicts down and draw the gate's page. Returns the failures among them."""
    with work.ledger.page() as tx:
        if suite.gate != "answers":  # the files of the others may change under a run
            ledger_gates.forget(tx, work.run, suite.gate)
        ledger_gates.record(tx, work.run, verdicts, now=clock())
    with work.ledger.view() as tx:
        told = [each for each in ledger_gates.verdicts(tx, work.run) if each.gate == suite.gate]
    write_docs(work, suite.gate, told)
    return failures_in(suite, verdicts)


def _quarantine(work: Work, page: Sequence[Judged], failures: Mapping[int, list[str]], clock: Clock) -> None:
    """Set aside the page's rows that fail and have not begun; not those that a person sent on in spite of it."""
    waiting = [each for each in page if each.row_no in failures and (each.state, each.turn) == ("ready", 0)]
    if not waiting:
        return
    with work.ledger.page() as tx:
        sent = ledger_gates.sent_again(tx, [each.row_no for each in waiting])
        remarks = [
            Remark(each.row_no, each.turn, ledger_gates.REASON, "; ".join(failures[each.row_no]))
            for each in waiting
            if each.row_no not in sent
        ]
        ledger_rows.quarantine(tx, remarks, now=clock())


def _facts(work: Work) -> dict[str, float]:
    sink = open_sink(work.job.spec.sink, work.home, work.job.answer, work.environment)[0].location
    with work.ledger.view() as tx:
        return ledger_gates.facts(tx, work.run.run_no) | ledger_gates.load_facts(tx, work.run, sink)


def _parameters(work: Work, facts: Mapping[str, float]) -> Parameters:
    with work.ledger.view() as tx:
        last = ledger_gates.last_good(tx, work.run)
        before = None if last is None else ledger_gates.facts(tx, last)
        return values_of(facts, before, {} if last is None else ledger_gates.spreads(tx, last))


def _rows_of(work: Work) -> Turner:
    def turn(after: int) -> list[Judged]:
        with work.ledger.view() as tx:
            return ledger_gates.rows_page(tx, work.run, after=after, limit=PAGE_ROWS)

    return turn


def _answers_of(work: Work, *states: str) -> Turner:
    def turn(after: int) -> list[Judged]:
        with work.ledger.view() as tx:
            return ledger_gates.answers_page(tx, work.run, states, after=after, limit=PAGE_ROWS)

    return turn


def _pages(turner: Turner) -> Iterator[list[Judged]]:
    after = 0
    while page := turner(after):
        yield page
        after = page[-1].row_no
