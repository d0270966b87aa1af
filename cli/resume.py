"""`rowtide resume RUN`."""

import os
from typing import Annotated

from cyclopts import Parameter, validators

from cli.homes import existing_ledger
from cli.pump import AsJson, AskedPrefect, pump, say_rehearsal
from rowtide.api.which_api import check_same, in_environment
from rowtide.ledger import ledger as ledgers


def resume(
    run: str,
    *,
    budget: Annotated[float | None, Parameter(validator=validators.Number(gt=0))] = None,
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
        A larger budget than the run has, in US dollars, all that it has spent included.
    """
    now = in_environment(os.environ)
    with existing_ledger(run) as ledger, ledger.view() as tx:
        found = ledgers.find_run(tx, run)
    check_same(found.run_id, found.api, now)
    say_rehearsal()
    return pump(
        found.run_id,
        as_json=json,
        prefect=prefect,
        job=found.job_folder,
        source=found.source_path,
        limit=found.row_limit,
        lane=found.lane,
        budget=budget,
    )
