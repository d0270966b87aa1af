"""Parses a message: a row, a list of rows, or a CloudEvent with rows; or refuses it.

Every refusal has a kind that a program can act on, an HTTP status, and words for a person (RFC 9457).
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rowtide.errors import RowtideError
from rowtide.intake.exact_json import parse_json_exactly
from rowtide.intake.source_rows import canonical_json, key_fault, row_id, row_key

REFUSALS = {
    "bad_head": (400, "The request's headers contradict each other"),
    "not_json": (400, "The body is not JSON"),
    "not_rows": (400, "The body holds no rows"),
    "no_message_id": (400, "The message has no id that can be stored"),
    "not_signed": (401, "The message is not signed"),
    "bad_signature": (401, "The signature is not valid"),
    "stale": (401, "The message was signed too long ago"),
    "from_the_future": (401, "The message was signed with a time in the future"),
    "from_a_page": (403, "A page in a browser may not send"),
    "unknown_job": (404, "There is no such job"),
    "unknown_message": (404, "There is no such message"),
    "too_slow": (408, "The body took too long to arrive"),
    "message_differs": (409, "Another message was received under this id"),
    "no_length": (411, "The request does not give its body's length"),
    "too_large": (413, "The body is too large"),
    "not_json_type": (415, "The body is not declared as JSON"),
    "missing_columns": (422, "A row lacks columns that the job needs"),
    "missing_key": (422, "A row has no key"),
    "unusable_key": (422, "A row's key cannot be stored"),
    "row_too_large": (422, "A row is too large"),
    "cannot_be_kept": (422, "The ledger cannot store a value of the message"),
    "bad_parameters": (422, "The request for a run is not valid"),
    "too_many": (429, "Too many messages"),
    "busy": (503, "Too many messages wait to be written"),
    "unavailable": (503, "This cannot be done now"),
}
CLOUD_EVENT = ("specversion", "id", "source", "type")  # attributes of every CloudEvent


class MessageRefused(RowtideError):
    """A message is refused for a reason that its sender can act on."""

    def __init__(self, kind: str, detail: str, *, retry_after_seconds: float | None = None) -> None:
        self.kind, self.detail, self.retry_after_seconds = kind, detail, retry_after_seconds
        self.status, self.title = REFUSALS[kind]
        super().__init__(f"{self.title}: {detail}")


@dataclass(frozen=True, slots=True)
class RowRules:
    """What a job requires of a row in a message."""

    job: str
    key: Sequence[str]
    columns: Sequence[str]
    row_bytes: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message fit to be stored: its rows as (key, canonical JSON)."""

    job: str
    message_id: str
    body_hash: str
    rows: list[tuple[str, bytes]]


def parse_body(body: bytes) -> object:
    """Parse the body as JSON. Raises MessageRefused."""
    try:
        return parse_json_exactly(body)
    except ValueError as error:
        raise MessageRefused("not_json", str(error) if body else "the body is empty") from None


def build_message(rules: RowRules, message_id: str, value: object) -> Message:
    """Return the message, if all its rows are fit. Raises MessageRefused, naming the row and the column."""
    rows = rows_of_body(value)
    kept = [_kept(rules, row, f"row {n}" if len(rows) > 1 else "the row") for n, row in enumerate(rows, 1)]
    return Message(rules.job, message_id, row_id(b"\n".join(content for _, content in kept)), kept)


def rows_of_body(value: object) -> list[Mapping[str, object]]:
    """Return the rows of a body. The data of a CloudEvent, alone or in a list, is a row or a list of rows."""
    if isinstance(value, list):
        rows = [row for each in value for row in (rows_of_body(each) if _is_cloud_event(each) else [each])]
    else:
        rows = rows_of_body(_data_of(value)) if _is_cloud_event(value) else [value]
    if not rows:
        raise MessageRefused("not_rows", "the list is empty")
    for n, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise MessageRefused("not_rows", f"row {n} is not a JSON object but {_name_of(row)}")
    return rows


def cloud_event_id(value: object) -> str | None:
    """Return `source#id` of a CloudEvent, which is unique; None for anything else."""
    if not isinstance(value, dict) or not _is_cloud_event(value):
        return None
    its_own = value["id"].replace("%", "%25").replace("#", "%23")  # so that the last # is the separator
    return f"{value['source']}#{its_own}"


def _is_cloud_event(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in CLOUD_EVENT)


def _data_of(event: object) -> object:
    assert isinstance(event, dict)
    if "data_base64" in event:
        try:
            return parse_body(base64.b64decode(str(event["data_base64"]), validate=True))
        except binascii.Error as error:
            raise MessageRefused("not_rows", f"the CloudEvent's data_base64: {error}") from None
    if _is_cloud_event(event.get("data")):
        raise MessageRefused("not_rows", "a CloudEvent within a CloudEvent")
    return event.get("data")


def _kept(rules: RowRules, row: Mapping[str, object], name: str) -> tuple[str, bytes]:
    if missing := [column for column in (*rules.key, *rules.columns) if column not in row]:
        columns = ", ".join(repr(column) for column in dict.fromkeys(missing))
        raise MessageRefused(
            "missing_columns", f"{name} lacks {columns}; job {rules.job!r} needs {', '.join(rules.columns)}"
        )
    key = row_key(row, rules.key)
    if key is None:
        raise MessageRefused("missing_key", f"{name}: {', '.join(rules.key)} is null or blank")
    if fault := key_fault(key):
        raise MessageRefused("unusable_key", f"{name}: {fault}")
    content = canonical_json(row)
    if len(content) > rules.row_bytes:
        size = f"{len(content):,} bytes as JSON; limits.row_bytes is {rules.row_bytes:,}"
        raise MessageRefused("row_too_large", f"{name} is {size}")
    return key, content


def _name_of(value: object) -> str:
    names = {"list": "a list", "str": "text", "NoneType": "null", "bool": "a truth value"}
    return names.get(type(value).__name__, "a number")
