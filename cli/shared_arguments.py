"""Argument types that commands share: the id of a run, the name of a job; and the signature of whoever
gives a command.
"""

import getpass
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from cli.completion import job_names, run_ids
from rowtide.ledger.quarantine import Signature

RunId = Annotated[str, Parameter(help="The run's id, as `rowtide runs` lists it.", completer=run_ids)]
NewestRunId = Annotated[
    str | None,
    Parameter(help="The run's id, as `rowtide runs` lists it; by default the newest.", completer=run_ids),
]
JobName = Annotated[str, Parameter(help="A name under jobs/, or a folder that holds a job.yaml.", completer=job_names)]
SomeJob = Annotated[str | None, Parameter(completer=job_names)]
SomeRun = Annotated[str | None, Parameter(completer=run_ids)]
Every = Annotated[bool, Parameter(name="--all")]


def sign() -> Signature:
    """Return the signature of whoever gives this command, now."""
    return Signature(getpass.getuser(), datetime.now(UTC))
