"""Judges stored answers again under today's checks and gates. Nothing is asked, so it costs nothing."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from rowtide.agent.agent import Verdict, text_of
from rowtide.agent.answer_checks import judge_answer
from rowtide.agent.grounding import ToolOutput
from rowtide.agent.self_check import parse_self_check_reply
from rowtide.errors import StoppedByJob, UserMistake
from rowtide.gates.expectation_counts import failing_rows_of_page
from rowtide.gates.page_judging import PageJudge
from rowtide.job.job_code import is_job_wide_fault, most_frequent_failure
from rowtide.job.job_folder import Job
from rowtide.job.versions import JobVersion, version_from_record
from rowtide.ledger import gate_results as ledger_gate_results
from rowtide.ledger import job_versions as ledger_job_versions
from rowtide.ledger import leases as ledger_leases
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import rechecks as ledger_rechecks
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.quarantine import Signature
from rowtide.ledger.rechecks import StoredAnswer
from rowtide.sinks.sink import Sink
from rowtide.stages.run_context import load_gate

PAGE_ROWS = 1000
EXAMPLES = 3  # keys reported for each problem
UNSEEN = "the job asks for a self-check, and this answer never had one: a recheck asks nothing"


@dataclass
class Rechecked:
    """The result of a recheck, in rows."""

    judged: int = 0
    stand: int = 0
    """Accepted or loaded, and pass."""
    accepted: int = 0
    """Quarantined before, and pass."""
    still_fail: int = 0
    """Quarantined, and fail again."""
    fail: int = 0
    """Accepted or loaded, and fail."""
    taken_out: int = 0
    elsewhere: int = 0
    """Fail, and are in another sink than the job names today."""
    problems: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


def recheck_answers(
    ledger: Ledger,
    run_id: str,
    job: Job,
    sink: Sink,
    hand: Signature,
    *,
    only_loaded: bool,
    is_dry: bool,
    takes_out: bool,
) -> Rechecked:
    """Judge a run's stored answers again. Unless `is_dry`, quarantined answers that pass are accepted; with
    `takes_out`, failing rows are removed from the sink.

    Pages are judged before they are written: if the process dies, the rest is judged again. Raises UserMistake while
    another process works on the run, and StoppedByJob, with the page unchanged, when most of a page's answers fail
    alike in the job's own code.
    """
    with ledger.view() as tx:
        run = ledgers.find_run(tx, run_id)
        if not is_dry and ledger_leases.lease_state(tx, run_id, now=hand.now) == "held":
            raise UserMistake(f"a process works on run {run_id} at this moment: wait for its end, or use --dry-run")
    gate, found = _gate(job), Rechecked()
    for page in _pages(ledger, run, only_loaded=only_loaded):
        verdicts = _judged(ledger, job, page, gate, are_all=True)
        _count_verdicts(found, page, verdicts)
        if not is_dry:
            run = _write(ledger, run, job, page, verdicts, hand)
        failing = {each.row.row_no: each for each in page if each.state != "quarantined"}
        failed = {
            n: (each.state, "; ".join(verdicts[n].problems)) for n, each in failing.items() if verdicts[n].problems
        }
        if takes_out and failed:
            _take_out(ledger, run, sink, failed, found, hand)
    return found


def adopt_earlier_answers(ledger: Ledger, run: Run, job: Job, hand: Signature) -> None:
    """Judge earlier runs' answers to the same questions, where only the judging version has changed.

    Passing answers in the sink leave their rows unchanged, passing ones from quarantine are accepted, and the rest is
    asked.
    """
    gate = _gate(job)
    for table in ("loaded", "unverified"):
        after = 0
        while True:
            with ledger.view() as tx:
                page = ledger_rechecks.reusable_earlier_answers(tx, run, table, after=after, limit=PAGE_ROWS)
            if not page:
                break
            after, theirs = page[-1][0], {number: each.row for number, each in page}
            verdicts = _judged(ledger, job, [each for _, each in page], gate, are_all=False)
            passing = {
                n: verdicts[row.row_no].content for n, row in theirs.items() if not verdicts[row.row_no].problems
            }
            with ledger.page() as tx:
                if table == "unverified":
                    ledger_rechecks.adopt_answers(tx, run, passing, theirs, hand)
                else:
                    ledger_rechecks.mark_unchanged(tx, run, list(passing))
                    ledger_rechecks.record_rejudged(tx, run, [theirs[n].row_no for n in passing], job.version.judging)


def _gate(job: Job) -> PageJudge | None:
    suite = load_gate(job)
    return PageJudge(suite, suite.of("rows")) if suite else None


def _pages(ledger: Ledger, run: Run, *, only_loaded: bool) -> Iterator[list[StoredAnswer]]:
    after = 0
    while True:
        with ledger.view() as tx:
            page = ledger_rechecks.stored_answers_page(tx, run, only_loaded=only_loaded, after=after, limit=PAGE_ROWS)
        if not page:
            return
        yield page
        after = page[-1].row.row_no


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a page's answers are judged by, keyed by row_no."""

    contents: Mapping[int, bytes]
    answers: Mapping[int, bytes]
    replies: Mapping[int, bytes]
    looks: Mapping[int, bytes]
    """Replies of self-checks."""
    outputs: Mapping[int, list[ToolOutput]]

    def words(self, each: StoredAnswer) -> str:
        """Return the answer as given: the model's last text, or a person's override."""
        number = each.row.row_no
        reply_text = (
            text_of(orjson.loads(self.replies[number])) if number in self.replies and not each.is_overridden else ""
        )
        return reply_text or self.answers.get(number, b"").decode()


def _evidence(ledger: Ledger, page: Sequence[StoredAnswer]) -> Evidence:
    numbers, rows = [each.row.row_no for each in page], [each.row for each in page]
    with ledger.view() as tx:
        quoted, records = ledger_turns.quotations(tx, rows), ledger_turns.tool_calls_of_conversations(tx, rows)
        outputs = {n: [ToolOutput(each.tool, each.output) for each in found.outputs] for n, found in quoted.items()}
        for number, found in records.items():
            outputs_or_verdicts = [ToolOutput(each.tool, each.output, bool(each.is_error)) for each in found]
            outputs[number] = [*outputs.get(number, []), *outputs_or_verdicts]
        return Evidence(
            contents=ledger_turns.row_contents(tx, numbers),
            answers=ledger_turns.row_answers(tx, numbers),
            replies=ledger_rechecks.last_replies(tx, numbers, "answer"),
            looks=ledger_rechecks.last_replies(tx, numbers, "check"),
            outputs=outputs,
        )


def _judged(
    ledger: Ledger, job: Job, page: Sequence[StoredAnswer], gate: PageJudge | None, *, are_all: bool
) -> dict[int, Verdict]:
    """Return each row's verdict by today's checks and then the answers gate. `are_all`: no more rows will be judged.

    Raises StoppedByJob when most of the page fail alike in the job's own code.
    """
    known = _evidence(ledger, page)
    verdicts = {each.row.row_no: _verdict(job, each, known) for each in page}
    _check_alike(verdicts.values(), are_all=are_all)
    # A check that raised has passed nothing.
    outputs_or_verdicts = {
        n: Verdict(b"", [each.failure.words]) if each.failure else each for n, each in verdicts.items()
    }
    return _gated(outputs_or_verdicts, gate)


def _check_alike(verdicts: Collection[Verdict], *, are_all: bool) -> None:
    found = most_frequent_failure([each.failure for each in verdicts if each.failure])
    if found and is_job_wide_fault(found[1], len(verdicts), are_all=are_all):
        why = f"the job's own code fails alike on {found[1]:,} of {len(verdicts):,} stored answers: {found[0].words}"
        raise StoppedByJob(f"{why}; correct it, then `rowtide recheck` again")


def _verdict(job: Job, each: StoredAnswer, known: Evidence) -> Verdict:
    number = each.row.row_no
    verdict = judge_answer(
        known.words(each),
        answer=job.answer,
        checks=job.checks,
        built_in={} if each.is_overridden else job.spec.checks.rules,
        row=lambda: orjson.loads(known.contents[number]),
        outputs=lambda: known.outputs.get(number, []),
    )
    if verdict.problems or verdict.failure or each.state != "quarantined" or not job.spec.checks.self_check:
        return verdict
    looked = known.looks.get(number)
    return parse_self_check_reply(text_of(orjson.loads(looked)), verdict.content) if looked else Verdict(b"", [UNSEEN])


def _gated(verdicts: dict[int, Verdict], gate: PageJudge | None) -> dict[int, Verdict]:
    passing = [(number, orjson.loads(each.content)) for number, each in verdicts.items() if not each.problems]
    refused = failing_rows_of_page(gate.judge(passing)) if gate and passing else {}
    return verdicts | {number: Verdict(b"", words) for number, words in refused.items()}


def _count_verdicts(found: Rechecked, page: Sequence[StoredAnswer], verdicts: dict[int, Verdict]) -> None:
    for each in page:
        problems, is_quarantined = verdicts[each.row.row_no].problems, each.state == "quarantined"
        found.judged += 1
        found.stand += not problems and not is_quarantined
        found.accepted += not problems and is_quarantined
        found.still_fail += bool(problems) and is_quarantined
        found.fail += bool(problems) and not is_quarantined
        for problem in problems if not is_quarantined else ():
            what = problem.partition(", got ")[0]  # so that rows which fail alike are counted together
            found.problems[what] += 1
            if len(keys := found.examples.setdefault(what, [])) < EXAMPLES:
                keys.append(each.row.row_key)


def _write(
    ledger: Ledger, run: Run, job: Job, page: Sequence[StoredAnswer], verdicts: dict[int, Verdict], hand: Signature
) -> Run:
    """Accept quarantined rows that pass, and record the version that judged. Returns the run as it is then."""
    passing = {n: verdicts[n].content for n in (each.row.row_no for each in page) if not verdicts[n].problems}
    accepted = {each.row.row_no for each in page if each.state == "quarantined"} & passing.keys()
    with ledger.page() as tx:
        run = ledgers.find_run(tx, run.run_id)
        if accepted and run.judging != job.version.judging:
            now = JobVersion(version_from_record(run.parts).asks, job.version.judges)
            run = ledger_job_versions.adopt_version(tx, run, now, run.request, (), run.servers, hand, "rowtide recheck")
        ledger_rechecks.accept_stored_answers(tx, run, {n: passing[n] for n in sorted(accepted)}, hand)
        ledger_rechecks.record_rejudged(tx, run, list(passing), job.version.judging)
    return run


def _take_out(
    ledger: Ledger, run: Run, sink: Sink, failed: dict[int, tuple[str, str]], found: Rechecked, hand: Signature
) -> None:
    """Remove failing rows from the sink, then quarantine them: after a kill in between, they are removed again."""
    with ledger.view() as tx:
        parts = ledger_rechecks.parts_of_rows(tx, run, sink.location, list(failed))
        keys = {key for each in parts.values() for key in each}
        known = ledger_gate_results.keys_of_rows(tx, list(failed))
    here = {n: reply_text for n, reply_text in failed.items() if reply_text[0] == "accepted" or known[n] in keys}
    if parts:
        with sink.writing(f"{run.run_id}-taken-out") as out:
            out.take_out(parts)
    with ledger.page() as tx:
        ledger_rechecks.quarantine_loaded_rows(tx, run, sink.location, here, hand)
    found.taken_out += len(here)
    found.elsewhere += len(failed) - len(here)
