"""What gates cost: answers put straight into a ledger, judged in pages and as a whole, and loaded into Parquet.

`python -m benchmarks.gates [ROWS]` prints CPU microseconds a row and the peak of memory after each step.
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from benchmarks.used import peak_mb
from rowtide.intake.admission import Admission
from rowtide.json_bytes import dump_json
from rowtide.ledger import ledger as ledgers
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.ledger import Ledger, ledger_url
from rowtide.stages.extract.begin_run import RunOptions, begin_new_run
from rowtide.stages.preflight import plan_run
from rowtide.stages.run_context import RunContext, load_gate, open_run
from rowtide.stages.validate.answers_gate import judge_answers
from rowtide.stages.validate.run_gates import judge_rows
from tasks.load import load

JOB = Path(__file__).parent.parent / "jobs" / "companies"
PAGE = 5000  # as rows are read
SECTORS = ["Energy", "Financials", "Health Care", "Industrials", "Materials", "Utilities"]


def main() -> None:
    rows = int(sys.argv[1].replace(",", "")) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["ROWTIDE_HOME"] = folder
        _say(f"{rows:,} rows; imports: {peak_mb():.0f} MB")
        for run_id in ("first", "second"):  # the second is compared with the first
            _judge(home, run_id, rows)


def _judge(home: Path, run_id: str, rows: int) -> None:
    ledger = Ledger(ledger_url(None, home))
    found = asyncio.run(plan_run(JOB, None, os.environ))
    with ledger.page() as tx:
        tx.execute(text("DELETE FROM loaded"))  # so that the second run may load the same keys again
    run = begin_new_run(ledger, found, RunOptions(run_id, lane="batch"), now=_now())
    _timed("admit (not counted)", rows, lambda: _admit(ledger, run, rows))
    context = open_run(ledger, home, run_id, os.environ)
    total = _timed("rows gate", rows, lambda: _said(judge_rows(context, clock=_now)))
    _timed("answer (not counted)", rows, lambda: _answer(context, rows))
    total += _timed("answers, row by row", rows, lambda: judge_answers(context, load_gate(context.job), clock=_now))
    total += _timed("the whole run, and load", rows, lambda: asyncio.run(_load(run_id)))
    _say(f"{run_id}: {total:.1f} µs a row in all; peak {peak_mb():.0f} MB")
    ledger.close()


def _admit(ledger: Ledger, run: ledgers.Run, rows: int) -> None:
    for first in range(1, rows + 1, PAGE):
        page = [
            Admission(run.first_row_no + n, f"{run.run_id}-{n}", f"id-{n}", dump_json(_row(n)))
            for n in range(first, min(first + PAGE, rows + 1))
        ]
        with ledger.page() as tx:
            ledger_rows.admit_rows(tx, run, page, read_before=first - 1, read_after=first - 1 + len(page), now=_now())
            ledger_rows.route_rows(tx, run, 0)


def _answer(context: RunContext, rows: int) -> None:
    chance = random.Random(1)
    for first in range(1, rows + 1, PAGE):
        numbers = range(context.run.first_row_no + first, context.run.first_row_no + min(first + PAGE, rows + 1))
        with context.ledger.page() as tx:
            where = {"first": numbers[0], "last": numbers[-1]}
            tx.execute(text("UPDATE row SET state = 'replied', turn = 1 WHERE row_no BETWEEN :first AND :last"), where)
            ledger_rows.record_answers(tx, context.run, {n: dump_json(_reply(n, chance)) for n in numbers})


async def _load(run_id: str) -> int:
    return await load(run_id)


def _row(n: int) -> dict[str, str]:
    name = f"Company {n}"
    return {"company_id": f"C{n}", "name": name, "country": "Germany", "headquarters": "Berlin", "industries": "steel",
            "isins": "DE0005545503"}  # fmt: skip


def _reply(n: int, chance: random.Random) -> dict[str, object]:
    return {
        "country": "DE",
        "country_evidence": f"Company {n} has its seat in Germany, says its authority.",
        "register_id": f"R-{n % 1_000_000:06d}",
        "sector": chance.choice(SECTORS),
        "confidence": round(0.5 + chance.random() / 2, 6),
    }


def _timed(name: str, rows: int, step: Callable[[], object]) -> float:
    """Do a step and say what it took. Returns CPU microseconds a row."""
    began, cpu = time.perf_counter(), time.process_time()
    step()
    each = (time.process_time() - cpu) / rows * 1e6
    _say(f"  {name:<26}{each:>8.1f} µs a row{time.perf_counter() - began:>9.1f} s wall{peak_mb():>8.0f} MB peak")
    return each


def _said(failures: Sequence[object]) -> None:
    for each in failures:
        _say(f"  ! {each}")


def _now() -> datetime:
    return datetime.now(UTC)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
