"""The runs that an eval asks its rows by: of an arm, or of a judge. Each has a file of rows as its source."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rowtide.ledger import evals as ledger_evals
from rowtide.ledger.evals import Eval
from rowtide.ledger.ledger import Ledger
from rowtide.tiers.pricing import MICRO


@dataclass(frozen=True, slots=True)
class ArmRun:
    """A run that asks rows of one arm, or pairs of one judge."""

    run_id: str
    folder: str
    source: str
    tiers: list[str]
    lane: str
    budget_usd: float | None


def budget_of(ledger: Ledger, found: Eval, run_id: str) -> float | None:
    """What a run may cost in all, in US dollars: what it has cost, and what is left of the eval's."""
    if found.budget_micro is None:
        return None
    with ledger.view() as tx:
        left = max(found.budget_micro - ledger_evals.spent_micro(tx, found.eval_id), 0)
        return (left + ledger_evals.run_spent_micro(tx, run_id)) / MICRO


def write_rows(file: Path, rows: Iterable[bytes], encoding: str = "utf-8") -> Path:
    """Write rows as a JSONL file, in the encoding that a job's source has."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes("".join(_ascii(row) + "\n" for row in rows).encode(encoding))
    return file


def _ascii(content: bytes) -> str:
    return "".join(each if each < "\x80" else _escaped(each) for each in content.decode("utf-8", "surrogatepass"))


def _escaped(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
