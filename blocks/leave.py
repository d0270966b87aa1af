"""The form on a flow run's page that gives or refuses leave."""

from typing import Literal

from prefect.input import RunInput
from pydantic import Field


class Leave(RunInput):
    """Allow or deny the calls above, all of them; for some of them: rowtide approve."""

    decision: Literal["allow", "deny"] = Field(description="What becomes of every call listed above.")
    why: str = Field(default="", description="Your reason; the model reads that of a denial.")
    who: str = Field(default="", description="Your name, for the ledger.")
