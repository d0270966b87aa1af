"""Check the envelope of a batch; the `params` of its rows are checked when the batch ends."""

import re
from typing import Any

import orjson

from emulator.problems import Problem, invalid

MOST_ROWS = 100_000
LEGAL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")


def parse_json(body: bytes | bytearray) -> dict[str, Any]:
    """Parse the body of any request as an object. Raises Problem."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(f"The request body is not valid JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise invalid("Input should be a valid dictionary or object to extract fields from")
    return parsed


def parse_envelope(body: bytes | bytearray) -> list[dict[str, Any]]:
    """Return the rows of a create call. Raises Problem to refuse the whole call."""
    envelope = parse_json(body)
    requests = envelope.pop("requests", None)
    for extra in envelope:
        raise invalid(f"{extra}: Extra inputs are not permitted")
    if requests is None:
        raise invalid("requests: Field required")
    if not isinstance(requests, list):
        raise invalid("requests: Input should be a valid list")
    if not requests:
        raise invalid("requests: List should have at least 1 item after validation, not 0")
    if len(requests) > MOST_ROWS:
        raise invalid(f"requests: List should have at most {MOST_ROWS} items after validation, not {len(requests)}")
    _check_rows(requests)
    return requests


def _check_rows(requests: list[Any]) -> None:
    seen: set[str] = set()
    for row, request in enumerate(requests):
        custom_id = request.get("custom_id") if isinstance(request, dict) else None
        if not isinstance(custom_id, str) or not LEGAL_ID.match(custom_id) or len(request) != 2:
            problem = _row_problem(request)
            if problem:
                raise invalid(f"requests.{row}{problem}")
        if not isinstance(request.get("params"), dict):
            missing = "params" not in request
            raise invalid(f"requests.{row}.params: " + ("Field required" if missing else "Input should be an object"))
        assert isinstance(custom_id, str)
        seen.add(custom_id)
        if len(seen) != row + 1:
            raise invalid(
                f"requests: custom_id's must be unique within a batch. Duplicate custom_id found: {custom_id}"
            )


def _row_problem(request: object) -> str | None:
    if not isinstance(request, dict):
        return ": Input should be an object"
    if "custom_id" not in request:
        return ".custom_id: Field required"
    custom_id = request["custom_id"]
    if not isinstance(custom_id, str):
        return ".custom_id: Input should be a valid string"
    if not custom_id:
        return ".custom_id: String should have at least 1 character"
    if len(custom_id) > 64:
        return ".custom_id: String should have at most 64 characters"
    if not LEGAL_ID.match(custom_id):
        return ".custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"
    for extra in request.keys() - {"custom_id", "params"}:
        return f".{extra}: Extra inputs are not permitted"
    return None


def too_large() -> Problem:
    return Problem(413, "Request exceeds the maximum size")
