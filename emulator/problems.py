"""The errors the API can answer with: status, type and message."""

from collections.abc import Mapping
from typing import Any

import orjson

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# What each says when nothing more is known.
WORDS = {
    400: "Invalid request",
    401: "API key is invalid.",
    402: "There is an issue with your billing or payment information.",
    403: "Your API key does not have permission to use the specified resource.",
    404: "Not found",
    409: "Conflict",
    413: "Request exceeds the maximum size",
    429: "This request would exceed your organization's rate limit. Please try again later.",
    500: "Internal server error",
    503: "Service unavailable",
    504: "Request timed out",
    529: "Overloaded",
}


class Problem(Exception):
    """A refusal, on its way to become an HTTP response or an errored row."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        details: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status, self.message = status, message
        self.details, self.headers = details, dict(headers or {})
        super().__init__(message)

    @property
    def type(self) -> str:
        return TYPES[self.status]

    def body(self, request_id: str) -> bytes:
        """The body of an HTTP response."""
        error: dict[str, Any] = {"type": self.type, "message": self.message}
        if self.details is not None:
            error["details"] = self.details
        return orjson.dumps({"type": "error", "error": error, "request_id": request_id})

    def row_error(self) -> dict[str, Any]:
        """Return the `error` of an errored row. Its request_id is null: validation happens before any
        request is made.
        """
        details = self.details or {"error_visibility": "user_facing"}
        error = {"details": details, "type": self.type, "message": self.message}
        return {"type": "error", "error": error, "request_id": None}


def invalid(message: str) -> Problem:
    return Problem(400, message)
