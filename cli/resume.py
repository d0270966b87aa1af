"""`rowtide resume RUN`."""

from typing import Annotated

from cyclopts import Parameter, validators

from cli.pump import pump
from cli.say import existing_ledger
from rowtide.ledger import ledger as ledgers


def resume(
    run: str,
    *,
    budget: Annotated[float | None, Parameter(validator=validators.Number(gt=0))] = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Go on with a run, from the last committed row.

    Nothing that was done is done again, and no batch is paid for twice.

    Parameters
    ----------
    run
        The run's id, as `rowtide runs` lists it.
    budget
        A larger budget than the run has, in US dollars, all that it has spent included.
    json
        Print one JSON object last on stdout.
    """
    with existing_ledger() as ledger, ledger.view() as tx:
        found = ledgers.find_run(tx, run)
    return pump(
        found.run_id,
        as_json=json,
        job=found.job_folder,
        source=found.source_path,
        limit=found.row_limit,
        lane=found.lane,
        budget=budget,
    )
