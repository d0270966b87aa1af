"""The rows of the next look that must be asked, arm by arm, as a source for a run."""

from pathlib import Path

import orjson

from rowtide.evals.outcome import ArmName
from rowtide.job.job_file import read_spec
from rowtide.ledger import evals as ledger_evals
from rowtide.ledger.evals import Eval, EvalRow
from rowtide.ledger.ledger import Ledger
from rowtide.ledger.read import evals as read_evals
from rowtide.stages.evaluate.ask_judges import label_runs, unfinished_runs
from rowtide.stages.evaluate.look_answers import ARMS, looks_of, run_of
from rowtide.stages.evaluate.look_runs import ArmRun, budget_of, write_rows


def next_look(ledger: Ledger, home: Path, eval_id: str) -> list[ArmRun] | None:
    """The runs that the next look needs, the incumbent's first; none where all its answers are known. None at all where
    the eval has its verdict.

    Before the first look they are those of judges that no labels certify yet.
    """
    with ledger.view() as tx:
        found = ledger_evals.get(tx, eval_id)
        if found.verdict:
            return None
        look = len(read_evals.read_looks(tx, found)) + 1
        rows = ledger_evals.rows(tx, found.eval_no, looks_of(look))
    if found.plan.is_to_be_certified:
        return label_runs(ledger, home, found)
    runs: list[ArmRun] = []
    for name in ARMS:
        if asked := [row for row in rows if _is_asked(row, name, found)]:
            arm, run_id = found.incumbent if name == "incumbent" else found.candidate, run_of(found, look, name)
            file = home / "evals" / found.eval_id / f"look-{look}-{name}.jsonl"
            write_rows(file, (row.content for row in asked), read_spec(Path(arm.folder)).source.encoding or "utf-8")
            budget = budget_of(ledger, found, run_id)
            runs.append(ArmRun(run_id, arm.folder, str(file), list(arm.tiers), found.plan.lane, budget))
    return [*runs, *unfinished_runs(ledger, home, found, look)]


def _is_asked(row: EvalRow, arm: ArmName, found: Eval) -> bool:
    """One that both would be asked alike differs in nothing: it is asked only to know how often a first version is
    right, or because it is pinned; and once."""
    if row.is_same:
        is_wanted = found.plan.is_first or orjson.loads(row.golden)["pinned"]
        return arm == "incumbent" and row.incumbent_row is None and is_wanted
    return (row.candidate_row if arm == "candidate" else row.incumbent_row) is None
