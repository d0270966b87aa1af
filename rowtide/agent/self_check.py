"""The self-check of an answer by a tier of the job's choice: its request, and its verdict.

It is a request of its own, in batches like any other: a rubric, the row, the answer. It sees neither the conversation
nor the tools, so these cannot influence it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rowtide.agent.agent import Verdict
from rowtide.agent.requests import shared_request_part
from rowtide.job.job_code import JobCodeFailure, fill_template


class SelfCheckVerdict(BaseModel):
    """The verdict of a self-check."""

    model_config = ConfigDict(extra="forbid")

    passes: bool = Field(description="Whether the answer is right by the rubric.")
    why: str = Field(description="What exactly is wrong with the answer, or why it is right.")


@dataclass(frozen=True)
class Rubric:
    """The self-check's prompt: instructions that all rows share, and a message for each row."""

    instructions: str
    message: jinja2.Template
    file: Path

    def shared(self, schema: dict[str, object]) -> bytes:
        """Return the part that all its requests share, as the inside of a JSON object."""
        return shared_request_part(self.instructions, [], schema)

    def message_for(self, row: Mapping[str, object], answer: bytes) -> str | JobCodeFailure:
        """Return the message of one request: the rubric filled with the row and its answer."""
        values = {**row, "answer": answer.decode(), "claimed": orjson.loads(answer)}
        text = fill_template(self.message, self.file, values, row)
        return text.strip() if isinstance(text, str) else text


def parse_self_check_reply(words: str, answer: bytes) -> Verdict:
    """Return a self-check's verdict on the answer. An unreadable reply does not let it pass."""
    try:
        look = SelfCheckVerdict.model_validate(orjson.loads(words))
    except (ValueError, ValidationError):
        return Verdict(answer, ["a self-check of this answer came to no verdict; make it plain and complete"])
    return Verdict(answer, [] if look.passes else [f"a self-check found: {look.why[:1000]}"])
