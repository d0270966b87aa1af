"""`rowtide resume RUN`: go on with a run from the last committed row."""

import os
from typing import Annotated

from cyclopts import Parameter

from cli.completion import run_ids
from cli.environment_checks import check_home
from cli.eval import ask_to_end
from cli.home_folders import home_folder
from cli.numbers import Amount
from cli.open_ledger import open_existing_ledger
from cli.output import err
from cli.terminal_run import AsJson, AskedPrefect, Verbose, announce_rehearsal, run_to_end
from flows.ask_looks import ask_looks
from rowtide.api.api_identity import api_in_environment, check_same_api
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import evals as ledger_evals
from rowtide.ledger import ledger as ledgers
from rowtide.ledger.evals import Eval
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.read import costs as ledger_costs
from rowtide.text_format import format_usd
from rowtide.tiers.pricing import MICRO


def resume(
    run: Annotated[str, Parameter(completer=run_ids)],
    *,
    budget: Amount | None = None,
    prefect: AskedPrefect = None,
    verbose: Verbose = False,
    json: AsJson = False,
) -> int:
    """Go on with a run, from the last committed row; of an eval, or of a run of one, with the eval.

    Nothing that was done is done again, and no batch is paid for twice.

    Parameters
    ----------
    run
        The run's id, as `rowtide runs` lists it; or an eval's.
    budget
        The run's budget from now on, larger or smaller, in US dollars; all that it has spent counts. An eval's can only
        be larger.
    """
    now = api_in_environment(os.environ)
    with open_existing_ledger(run) as ledger:
        with ledger.view() as tx:
            begun = ledger_evals.of_id_or_run(tx, run)
            found = begun or ledgers.find_run(tx, run)
        check_same_api(run, found.api, now)
        announce_rehearsal()
        check_home(home_folder())
        if isinstance(found, Eval):
            if budget is not None:
                with ledger.page() as tx:
                    ledger_evals.give_budget(tx, found.eval_no, round(budget * MICRO))
        elif budget is not None:
            _give_budget(ledger, found, round(budget * MICRO))
    if isinstance(found, Eval):
        err.print(f"{run} belongs to eval {found.eval_id}, which goes on", markup=False)
        return ask_to_end(ask_looks(found.eval_id), as_json_object=json)
    return run_to_end(
        found.run_id,
        as_json=json,
        is_verbose=verbose,
        prefect=prefect,
        job=found.job_folder,
        source=found.source_path,
        limit=found.row_limit,
        lane=found.lane,
    )


def _give_budget(ledger: Ledger, run: Run, micro: int) -> None:
    """Set the run's budget, and print the old one and what is left of the new one."""
    with ledger.page() as tx:
        counted = ledger_batches.spent_micro(tx, run) + ledger_batches.reserved_micro(tx, run)
        ledger_costs.set_budget(tx, run, micro)
    before = "none" if run.budget_micro is None else format_usd(run.budget_micro / MICRO)
    left = "" if counted < micro else ", so nothing more is sent"
    err.print(
        f"budget: {format_usd(micro / MICRO)}, it was {before}; {format_usd(counted / MICRO)} of it is spent{left}",
        markup=False,
    )
