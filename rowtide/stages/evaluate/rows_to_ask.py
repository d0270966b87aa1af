"""The rows of the next look that must be asked, arm by arm, as a source for a run."""

from dataclasses import dataclass
from pathlib import Path

import orjson

from rowtide.evals.outcome import ArmName
from rowtide.job.job_file import read_spec
from rowtide.ledger import evals as ledger_evals
from rowtide.ledger.evals import Eval, EvalRow
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.read import evals as read_evals
from rowtide.stages.evaluate.judge_look import looks_of, run_of
from rowtide.tiers.pricing import MICRO


@dataclass(frozen=True, slots=True)
class ArmRun:
    """A run that asks rows of one arm."""

    run_id: str
    folder: str
    source: str
    tiers: list[str]
    lane: str
    budget_usd: float | None


def next_look(ledger: Ledger, home: Path, eval_id: str) -> list[ArmRun] | None:
    """The runs that the next look needs, the incumbent's first; none where all its answers are known. None at all where
    the eval has its verdict."""
    with ledger.view() as tx:
        found = ledger_evals.get(tx, eval_id)
        if found.verdict:
            return None
        look = len(read_evals.read_looks(tx, found)) + 1
        rows = ledger_evals.rows(tx, found.eval_no, looks_of(look))
        spent = ledger_evals.spent_micro(tx, eval_id)
    left = None if found.budget_micro is None else max(found.budget_micro - spent, 0)
    runs: list[ArmRun] = []
    arms: tuple[ArmName, ...] = ("incumbent", "candidate")
    for name in arms:
        if asked := [row for row in rows if _is_asked(row, name, found)]:
            arm = found.incumbent if name == "incumbent" else found.candidate
            file = _write(home, found, look, name, asked, arm.folder)
            budget = None if left is None else _budget(ledger, run_of(found, look, name), left) / MICRO
            run_id = run_of(found, look, name)
            runs.append(ArmRun(run_id, arm.folder, str(file), list(arm.tiers), found.plan.lane, budget))
    return runs


def _is_asked(row: EvalRow, arm: ArmName, found: Eval) -> bool:
    """One that both would be asked alike differs in nothing: it is asked only to know how often a first version is
    right, or because it is pinned; and once."""
    if row.is_same:
        is_wanted = found.plan.is_first or orjson.loads(row.golden)["pinned"]
        return arm == "incumbent" and row.incumbent_row is None and is_wanted
    return (row.candidate_row if arm == "candidate" else row.incumbent_row) is None


def _budget(ledger: Ledger, run_id: str, left_micro: int) -> int:
    """What a run may cost in all: what it has cost, and what is left of the eval's."""
    with ledger.view() as tx:
        return left_micro + ledger_evals.run_spent_micro(tx, run_id)


def _write(home: Path, found: Eval, look: int, arm: ArmName, rows: list[EvalRow], folder: str) -> Path:
    """The rows as a JSONL file, in the encoding that the job's own source has."""
    file = home / "evals" / found.eval_id / f"look-{look}-{arm}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(_ascii(row.content) + "\n" for row in rows)
    file.write_bytes(text.encode(read_spec(Path(folder)).source.encoding or "utf-8"))
    return file


def _ascii(content: bytes) -> str:
    return "".join(each if each < "\x80" else _escaped(each) for each in content.decode("utf-8", "surrogatepass"))


def _escaped(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
