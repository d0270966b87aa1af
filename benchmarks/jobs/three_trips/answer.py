"""What three calls in a row find out."""

from pydantic import BaseModel, Field


class Answer(BaseModel):
    desk: str = Field(description="The desk, copied from find_desk.")
