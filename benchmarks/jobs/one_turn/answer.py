"""A five-field answer, as most jobs have."""

from typing import Literal

from pydantic import BaseModel, Field


class Answer(BaseModel):
    topic: Literal["billing", "delivery", "product"] = Field(description="What the message is about.")
    customer: str = Field(description="The customer, as written.")
    message: str = Field(description="The message, as written.")
    urgent: bool = Field(description="Whether it cannot wait.")
    confidence: float = Field(description="From 0 to 1.")
