"""What one call finds out."""

from pydantic import BaseModel, Field


class Answer(BaseModel):
    desk: str = Field(description="The desk, copied from find_desk.")
