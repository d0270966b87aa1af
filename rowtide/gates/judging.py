"""Whether a run passes its gates: rows before a cent is spent, all its answers, and what is about to be loaded.

Row-level failures of the rows gate are quarantined here, those of the answers gate in `validating`. What fails over the
whole run is returned: whoever asked decides what waits.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import orjson

from rowtide.gates.data_docs import write_docs
from rowtide.gates.facts import values_of
from rowtide.gates.gates import Suite
from rowtide.gates.holds import Failure
from rowtide.gates.pages import Found, Pages
from rowtide.gates.spreads import Spread, spreads_of
from rowtide.gates.tallies import Tallies, as_verdicts, failing_rows, failures_in
from rowtide.gates.whole import Scratch, judge_whole, scratch
from rowtide.job.answer_fields import names_of
from rowtide.ledger import ledger_gates, ledger_rows
from rowtide.ledger.ledger_gates import Judged, Verdict
from rowtide.ledger.ledger_rows import Remark
from rowtide.sinks.sinks import open_sink
from rowtide.work import Clock, Work, load_gate

PAGE_ROWS = 10_000  # Great Expectations takes a twentieth of a second for a page, whatever is in it

Read = tuple[Judged, dict[str, Any]]  # a row, and its values
Turner = Callable[[int], list[Judged]]  # the page after a row's number
Parameters = Mapping[str, Any]


class Judging:
    """One gate over a run, page by page, and then as a whole."""

    def __init__(self, suite: Suite, table: Scratch) -> None:
        # The answers gate's row-level part is done already.
        paged = suite.of("shares") if suite.gate == "answers" else suite.of("rows", "shares")
        self.suite, self._table, self._pages, self._tallies = suite, table, Pages(suite, paged), Tallies(paged)
        self._needs_all = bool(suite.of("whole"))

    def add(self, page: Sequence[Read]) -> list[Found]:
        """Judge one more page."""
        found = self._pages.judge([(each.row_no, values) for each, values in page])
        self._tallies.add(found, {each.row_no: each.row_key for each, _ in page})
        if self._needs_all:
            self._table.add([(each.row_key, values) for each, values in page])
        return found

    def verdicts(self, facts: Mapping[str, float], parameters: Parameters) -> list[Verdict]:
        """What each expectation says, now that all rows are in."""
        self._table.finish(facts)
        whole = judge_whole(self.suite, self.suite.of("whole", "facts"), self._table, parameters)
        outcomes = sorted(self._tallies.outcomes() + whole, key=lambda each: each.expectation.place)
        return as_verdicts(self.suite, outcomes, facts)


def judge_rows(work: Work, *, clock: Clock) -> list[Failure]:
    """Judge the rows that came in, and quarantine those that fail by themselves. Returns what fails over all of them.

    Judging again changes nothing but what has changed.
    """
    suite = load_gate(work.job, "rows")
    if suite is None:
        return []
    with _judging(work, suite) as judging:
        for page in _pages(_rows_of(work)):
            _quarantine(work, page, failing_rows(judging.add(page)), clock)
        return _settle(work, suite, judging.verdicts({}, _parameters(work, {})), clock)


def judge_load(work: Work, *, clock: Clock) -> list[Failure]:
    """Judge all answers that were accepted, and those about to be loaded. Returns what fails over all of them.

    How their values are spread is kept, for later runs to be compared with.
    """
    answers, load = load_gate(work.job, "answers"), load_gate(work.job, "load")
    facts = _facts(work) if load else {}
    parameters, spreads = _parameters(work, facts), {name: Spread() for name in names_of(work.job.answer)}
    with ExitStack() as stack:
        judgings = [stack.enter_context(_judging(work, suite)) for suite in (answers, load) if suite]
        for page in _pages(_answers_of(work)):
            for judging in judgings:
                is_load = judging.suite is load
                judging.add([read for read in page if not is_load or read[0].state == "accepted"])
            if load:
                for name, spread in spreads.items():
                    spread.add([values.get(name) for _, values in page])
        with work.ledger.page() as tx:
            ledger_gates.remember_spreads(tx, work.run, spreads_of(spreads))
        failures: list[Failure] = []
        for judging in judgings:
            its_facts = facts if judging.suite is load else {}
            failures += _settle(work, judging.suite, judging.verdicts(its_facts, parameters), clock)
    return failures


@contextmanager
def _judging(work: Work, suite: Suite) -> Generator[Judging]:
    with scratch(work.spool(f"gate-{suite.gate}.db"), suite.of("whole")) as table:
        yield Judging(suite, table)


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


def _quarantine(work: Work, page: Sequence[Read], failures: Mapping[int, list[str]], clock: Clock) -> None:
    """Set aside the page's rows that fail and have not begun; not those that a person sent on in spite of it."""
    waiting = [each for each, _ in page if each.row_no in failures and (each.state, each.turn) == ("ready", 0)]
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
    sink = open_sink(work.job.spec.sink, work.home, work.job.answer, work.environment, work.job.folder)[0].location
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


def _answers_of(work: Work) -> Turner:
    def turn(after: int) -> list[Judged]:
        with work.ledger.view() as tx:
            return ledger_gates.answers_page(tx, work.run, after=after, limit=PAGE_ROWS)

    return turn


def _pages(turner: Turner) -> Iterator[list[Read]]:
    after = 0
    while page := turner(after):
        yield [(each, orjson.loads(each.content)) for each in page]
        after = page[-1].row_no
