"""Converts the answer model to the JSON schema of requests. Only this module and the client import `anthropic`."""

import anthropic
from pydantic import BaseModel

from rowtide.errors import UserMistake
from rowtide.job.answer_fields import check_answer_model
from rowtide.job.answer_schema_limits import check_answer_schema, check_schema_limits


def api_schema(answer: type[BaseModel]) -> dict[str, object]:
    """Return the answer model as a JSON schema that the API accepts. Raises UserMistake for what it cannot express."""
    check_answer_model(answer)
    original = answer.model_json_schema()
    check_answer_schema(original, answer.__name__)
    try:
        sent = dict(anthropic.transform_schema(original))
    except ValueError as error:  # a field that may be anything
        raise UserMistake(f"the API cannot express it: {error}", file="answer.py", key=answer.__name__) from None
    check_schema_limits(sent, answer.__name__)
    return sent
