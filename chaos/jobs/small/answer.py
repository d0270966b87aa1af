"""What the agent answers about a message."""

from typing import Literal

from pydantic import BaseModel, Field


class Answer(BaseModel):
    """The desk that has the order, and what is wrong."""

    desk: str = Field(description="The desk, copied from the order.")
    topic: Literal["billing", "delivery", "product"] = Field(description="What the message is about.")
