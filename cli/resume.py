"""`rowtide resume RUN`."""

import os

from cli.environment_checks import check_home
from cli.existing_ledger import existing_ledger
from cli.home_folders import home
from cli.numbers import Amount
from cli.pump import AsJson, AskedPrefect, pump, say_rehearsal
from cli.say import err
from rowtide.api.which_api import check_same, in_environment
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import ledger as ledgers
from rowtide.ledger.ledger import Ledger, Run
from rowtide.ledger.read import costs as ledger_costs
from rowtide.text_format import usd
from rowtide.tiers.pricing import MICRO


def resume(
    run: str,
    *,
    budget: Amount | None = None,
    prefect: AskedPrefect = None,
    json: AsJson = False,
) -> int:
    """Go on with a run, from the last committed row.

    Nothing that was done is done again, and no batch is paid for twice.

    Parameters
    ----------
    run
        The run's id, as `rowtide runs` lists it.
    budget
        The run's budget from now on, larger or smaller, in US dollars; all that it has spent counts.
    """
    now = in_environment(os.environ)
    with existing_ledger(run) as ledger:
        with ledger.view() as tx:
            found = ledgers.find_run(tx, run)
        check_same(found.run_id, found.api, now)
        say_rehearsal()
        check_home(home())
        if budget is not None:
            _give_budget(ledger, found, round(budget * MICRO))
    return pump(
        found.run_id,
        as_json=json,
        prefect=prefect,
        job=found.job_folder,
        source=found.source_path,
        limit=found.row_limit,
        lane=found.lane,
    )


def _give_budget(ledger: Ledger, run: Run, micro: int) -> None:
    """Set the run's budget, and say what it was and what is left of it."""
    with ledger.page() as tx:
        counted = ledger_batches.spent_micro(tx, run) + ledger_batches.reserved_micro(tx, run)
        ledger_costs.set_budget(tx, run, micro)
    before = "none" if run.budget_micro is None else usd(run.budget_micro / MICRO)
    left = "" if counted < micro else ", so nothing more is sent"
    err.print(
        f"budget: {usd(micro / MICRO)}, it was {before}; {usd(counted / MICRO)} of it is spent{left}", markup=False
    )
