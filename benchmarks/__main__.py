"""What a row costs: measured against an emulator of the API, printed as a table, kept in benchmarks.json.

Only the client process is measured: its user and system CPU after its imports, its wall time, its peak of resident
memory, and what the run left in the ledger. The emulator, Prefect's server and PostgreSQL serve all cases and are not
counted, though they share the machine. A row's cost (`ms a row`) is the slope between two sizes of one family, so that
what a run costs once does not hide in it.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import programs, running, tables
from benchmarks.cases import Case, Kind, cases, chosen, smaller
from benchmarks.findings import findings
from benchmarks.recording import Record, in_words, machine
from benchmarks.running import Measured, Say
from benchmarks.servers import Ground, ground

EXAMPLES = """
examples:
  python -m benchmarks                        what `make bench` does: the short selection
  python -m benchmarks --full                 what `make bench-full` does: all, with a million rows and the peers
  python -m benchmarks --full --go-on         the same after it was stopped: what this commit has in the file is kept
  python -m benchmarks one-turn-1m            one case, and the smaller size that its slope is taken against
  python -m benchmarks 'one-trip-*' 'pydantic-ai-*'   some cases
  python -m benchmarks --list                 their names and what each is

other studies: python -m benchmarks.cutting, .function_calls, .gates, .money, .startup, .storm, .verdicts, .workers
"""

MEASURE: dict[Kind, Callable[[Ground, Case, Say], Measured]] = {
    "run": running.run,
    "killed": running.killed,
    "floor": programs.floor,
    "sdk_loop": programs.sdk_loop,
    "peer": programs.peer,
}


def main() -> int:
    """Measure what is asked for. Returns 1 when a case could not be measured."""
    options = _parser().parse_args()
    if options.list:
        for case in cases():
            print(f"{case.name:<26}{'' if case.in_short else 'full':<6}{case.what}")
        return 0
    asked = _with_smaller(chosen(options.case, full=options.full))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # told to end, it still ends what it started
    record = Record(options.out)
    figures = record.of_this_commit() if options.go_on else {}
    before = machine()
    print(in_words(before, record.commit), flush=True)
    with tempfile.TemporaryDirectory() as folder, ground(Path(folder)) as here:
        _measure(here, asked, record, figures)
    _conclude(asked, record, figures)
    return int(any("failed" in each for each in figures.values()))


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__, epilog=EXAMPLES, formatter_class=form)
    parser.add_argument("case", nargs="*", help="a name, or a pattern of names; by default the short selection")
    parser.add_argument("--full", action="store_true", help="every case")
    parser.add_argument("--go-on", action="store_true", help="leave out what the file holds of this commit")
    parser.add_argument("--list", action="store_true", help="name the cases and measure none")
    parser.add_argument("--out", type=Path, default=Path("benchmarks.json"), help="the file (default: %(default)s)")
    return parser


def _with_smaller(asked: Sequence[Case]) -> list[Case]:
    """A slope needs the next smaller size too."""
    names = {each.name for each in asked} | {less.name for each in asked if (less := smaller(each))}
    return [each for each in cases() if each.name in names]


def _measure(here: Ground, asked: Sequence[Case], record: Record, figures: dict[str, Measured]) -> None:
    """One after the other, but those there are figures of. One that cannot be measured says why; the others go on."""
    print(tables.HEADINGS, flush=True)
    for case in asked:
        if case.name in figures:
            print(tables.line(case, figures), flush=True)
    began, say = time.monotonic(), _teller()
    asked = [case for case in asked if case.name not in figures]
    for number, case in enumerate(asked, 1):
        say(f"{case.name}: {case.what} ({number} of {len(asked)}, {(time.monotonic() - began) / 60:.0f} min so far)")
        try:
            found = MEASURE[case.kind](here, case, say)
        except Exception as error:  # noqa: BLE001 # whatever it is, the others are measured
            traceback.print_exc()
            found = {"failed": " ".join(str(error).split())[:300] or type(error).__name__}
        figures[case.name] = record.add(case.name, found)
        say("")
        print(tables.line(case, figures), flush=True)
    if runs := [name for case in asked for name in figures[case.name].get("flow_runs", [])]:
        counted = sum(figures[case.name].get("task_runs", 0) for case in asked)
        print(f"\ntask runs: {counted:,} counted here, {here.task_runs(runs):,} told to Prefect's server")


def _conclude(asked: Sequence[Case], record: Record, figures: dict[str, Measured]) -> None:
    found = findings(figures)
    for line in [*tables.stages(asked, figures), *tables.peers(figures), *tables.findings(found)]:
        print(line)
    record.conclude(found)


def _teller() -> Say:
    """Where a person watches, one line that changes; in a log, a line each minute at most and each case's first."""
    if sys.stderr.isatty():
        width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
        return lambda line: print(f"\r{line[:width]:<{width}}\r", end="", file=sys.stderr, flush=True)
    told = [-60.0, ""]

    def tell(line: str) -> None:
        case = line.partition(":")[0]
        if line and (case != told[1] or time.monotonic() - float(told[0]) > 60):
            told[:] = [time.monotonic(), case]
            print(line, file=sys.stderr, flush=True)

    return tell


if __name__ == "__main__":
    sys.exit(main())
