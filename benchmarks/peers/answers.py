"""What a peer is asked to answer, as models: for those that take models, and want plain ones."""

from pydantic import BaseModel


class Sorted(BaseModel):
    """A sorted message."""

    topic: str
    customer: str
    message: str
    urgent: bool
    confidence: float


class Desk(BaseModel):
    """What the tool found."""

    desk: str
