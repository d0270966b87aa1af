"""What an error of the API's SDK says: whether the request left, in which words, and when to try again."""

from __future__ import annotations  # the SDK's types: it is imported when something is first asked

import re
from typing import Any, NoReturn

import anthropic
import httpx2

from rowtide.agent import reply_parsing
from rowtide.agent.account_refusals import account_refusal_of
from rowtide.agent.reply_parsing import LONGEST_DETAIL
from rowtide.api import api_outcomes
from rowtide.errors import StoppedByWorld, UserMistake, WorldError
from rowtide.masking import mask_secrets

LONGEST_WAIT_SECONDS = 3600.0  # upper bound of `retry-after`
SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def raise_api_error(error: Exception) -> NoReturn:
    """Raise UserMistake for a refused key, StoppedByWorld for a refused account, else WorldError."""
    if isinstance(error, anthropic.APIStatusError):
        words, after = status_error_text(error), retry_after(error)
        refusal = account_refusal_of(words)
        if isinstance(error, anthropic.AuthenticationError) or (error.status_code == 403 and refusal is None):
            raise UserMistake(f"the API refused the key in ANTHROPIC_API_KEY: {words}") from None
        if refusal or error.status_code == 402:
            raise StoppedByWorld(api_outcomes.refusal_text(error.status_code, words)) from None
    else:
        words, after = connection_error_text(error), None
    raise WorldError(f"the API did not answer as it should: {words}", retry_after_seconds=after) from error


def never_left(error: Exception) -> bool:
    """Return whether there was no connection, so that nothing was sent."""
    return isinstance(error.__cause__ or error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)


def not_connected_text(error: Exception) -> str:
    """Return why there was no connection, without secrets."""
    return mask_secrets(f"no connection: {error.__cause__ or error}")


def connection_error_text(error: Exception) -> str:
    """Return what went wrong: the SDK only says `Connection error.`, with the real error as its cause."""
    return mask_secrets(f"{type(error).__name__}: {str(error.__cause__ or '') or error}")


def error_type(error: anthropic.APIStatusError) -> str:
    """Return an API error's type; for an error that is not the API's, such as a proxy's page, "api_error"."""
    inner = _inner(error)
    return str(inner.get("type")) if inner else "api_error"


def retry_after(error: anthropic.APIStatusError) -> float | None:
    """Return the seconds of its `retry-after`, at most an hour; None without a readable one."""
    after = error.response.headers.get("retry-after", "")
    return min(float(after), LONGEST_WAIT_SECONDS) if SECONDS.fullmatch(after) else None


def status_error_text(error: anthropic.APIStatusError) -> str:
    """Return the API's own words, or the SDK's, without secrets."""
    inner = _inner(error)
    return reply_parsing.error_text_with_code(inner) if inner else mask_secrets(error.message)[:LONGEST_DETAIL]


def _inner(error: anthropic.APIStatusError) -> dict[str, Any] | None:
    inner: Any = error.body.get("error") if isinstance(error.body, dict) else None
    return inner if isinstance(inner, dict) else None
