"""The forms in Prefect's UI by which a person decides: allow tool calls, let a run past a gate, or a version run."""

from typing import Literal

from pydantic import BaseModel, Field


class CallApproval(BaseModel):
    """Allow or deny all calls shown on the page above. To decide about some of them only, use `rowtide approve`."""

    decision: Literal["allow", "deny"] = Field(description="What becomes of every call of this page.")
    why: str = Field(default="", description="Your reason; the model reads that of a denial.")
    who: str = Field(default="", description="Your name, for the ledger.")


class Verdict(BaseModel):
    """Approve of the run as it is, or reject the rows that wait: they are quarantined and nothing is lost."""

    decision: Literal["approve", "reject"] = Field(description="Whether the run goes on past the gates above.")
    why: str = Field(default="", description="Your reason, for whoever reads the run's story.")
    who: str = Field(default="", description="Your name, for the ledger.")


class VersionApproval(BaseModel):
    """Let this version of the job run without a passing eval, on your word, or stop it: then nothing is begun."""

    decision: Literal["run", "stop"] = Field(description="Whether this version of the job may run.")
    why: str = Field(min_length=1, description="Your reason: it stands in the ledger and in the report of each run.")
    who: str = Field(min_length=1, description="Your name, for the same.")
