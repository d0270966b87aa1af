"""The door to the API: the only module that imports `anthropic`, whose types stop here.

Bodies go out and results come in as bytes, through disk: no object per row. A create POST is made once and never
repeated here, because the API would take it twice.
"""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import anthropic
import httpx2
import orjson
from pydantic import BaseModel

from rowtide.errors import UserMistake, WorldError

BATCHES = "/v1/messages/batches"
CHUNK_BYTES = 1 << 20
LIST_PAGE = 100
STREAMED = {"X-Stainless-Raw-Response": "stream"}  # the SDK's own way to say: do not read the body for me


@dataclass(frozen=True, slots=True)
class BatchStatus:
    api_id: str
    status: str
    total: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Created:
    status: BatchStatus


@dataclass(frozen=True, slots=True)
class Refused:
    """The API certainly did not take the batch."""

    status_code: int
    message: str
    retry_after_seconds: float | None

    @property
    def is_too_large(self) -> bool:
        return self.status_code == 413

    @property
    def is_for_good(self) -> bool:
        return self.status_code not in (408, 409, 425, 429)


@dataclass(frozen=True, slots=True)
class Unknown:
    """No answer, or one that says nothing: the API may have the batch."""

    detail: str


class Claude:
    """A client for as long as an `async with` lasts."""

    def __init__(self, api_key: str, base_url: str) -> None:
        self._api = anthropic.AsyncAnthropic(api_key=api_key, base_url=base_url, max_retries=2)

    async def __aenter__(self) -> "Claude":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()

    async def create_batch(self, body: Path) -> Created | Refused | Unknown:
        """Post a body from disk, once."""
        once = self._api.with_options(max_retries=0)
        headers = {"content-type": "application/json", "content-length": str(body.stat().st_size)}
        try:
            answer = await once.post(
                BATCHES, cast_to=httpx2.Response, content=_chunks(body), options={"headers": headers, "timeout": 600}
            )
        except anthropic.APIStatusError as error:
            if error.status_code >= 500:
                return Unknown(f"{error.status_code}: {_words(error)}")
            after = error.response.headers.get("retry-after")
            return Refused(error.status_code, _words(error), float(after) if after and after.isdigit() else None)
        except (anthropic.APIConnectionError, httpx2.HTTPError) as error:
            return Unknown(f"{type(error).__name__}: {error}")
        return Created(_status(orjson.loads(answer.content)))

    async def retrieve(self, api_id: str) -> BatchStatus | None:
        """A batch's status, or None when the API does not know it (yet, or any more)."""
        try:
            answer = await self._api.get(f"{BATCHES}/{api_id}", cast_to=httpx2.Response)
        except anthropic.NotFoundError:
            return None
        except (anthropic.APIError, httpx2.HTTPError) as error:
            _raise(error)
        return _status(orjson.loads(answer.content))

    async def list_since(self, moment: datetime) -> list[BatchStatus]:
        """The workspace's batches made since `moment`, newest first."""
        found: list[BatchStatus] = []
        after = ""
        while True:
            try:
                answer = await self._api.get(f"{BATCHES}?limit={LIST_PAGE}{after}", cast_to=httpx2.Response)
            except (anthropic.APIError, httpx2.HTTPError) as error:
                _raise(error)
            page = orjson.loads(answer.content)
            statuses = [_status(each) for each in page["data"]]
            found += [each for each in statuses if each.created_at >= moment]
            if not page["has_more"] or (statuses and statuses[-1].created_at < moment):
                return found
            after = f"&after_id={page['last_id']}"

    async def spool_results(self, api_id: str, into: Path) -> None:
        """Bring a batch's results to disk, whole. Raises WorldError when they did not come whole."""
        part = into.with_suffix(".part")
        last = b"\n"
        try:
            # Our own path, never the results_url of the reply: the key goes to the server we were told of.
            answer = await self._api.get(
                f"{BATCHES}/{api_id}/results", cast_to=httpx2.Response, options={"headers": STREAMED}
            )
            with part.open("wb") as out:
                async for chunk in answer.aiter_bytes(CHUNK_BYTES):
                    out.write(chunk)
                    last = chunk[-1:] or last
                out.flush()
                os.fsync(out.fileno())
            await answer.aclose()
        except (anthropic.APIError, httpx2.HTTPError) as error:
            _raise(error)
        if last != b"\n":
            raise WorldError(f"the results of {api_id} were cut short")
        part.replace(into)


def api_schema(answer: type[BaseModel]) -> dict[str, object]:
    """The answer model as the JSON schema the API takes. Raises UserMistake for what it cannot express."""
    original = answer.model_json_schema()
    _refuse(original, original.get("$defs", {}), answer.__name__, ())
    return dict(anthropic.transform_schema(original))


def _refuse(schema: Any, defs: dict[str, Any], place: str, inside: tuple[str, ...]) -> None:
    """Raise for recursion and open-ended objects, naming the field."""
    if not isinstance(schema, dict):
        return
    if ref := schema.get("$ref"):
        name = str(ref).rpartition("/")[2]
        if name in inside:
            raise UserMistake(
                "a model cannot hold itself; the API's schemas do not recurse", file="answer.py", key=place
            )
        _refuse(defs[name], defs, place, (*inside, name))
    if schema.get("additionalProperties"):
        raise UserMistake(
            "a dict with keys of its own is not expressible; use a list of objects with a name and a value",
            file="answer.py",
            key=place,
        )
    for name, each in schema.get("properties", {}).items():
        _refuse(each, defs, f"{place}.{name}", inside)
    for each in [schema.get("items"), *schema.get("anyOf", []), *schema.get("allOf", []), *schema.get("oneOf", [])]:
        _refuse(each, defs, place, inside)


async def _chunks(body: Path) -> AsyncIterator[bytes]:
    with body.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk


def _status(found: dict[str, Any]) -> BatchStatus:
    return BatchStatus(
        api_id=found["id"],
        status=found["processing_status"],
        total=sum(found["request_counts"].values()),
        created_at=datetime.fromisoformat(found["created_at"]),
    )


def _raise(error: Exception) -> NoReturn:
    if isinstance(error, anthropic.AuthenticationError | anthropic.PermissionDeniedError):
        raise UserMistake(f"the API refused the key in ANTHROPIC_API_KEY: {_words(error)}") from None
    words = _words(error) if isinstance(error, anthropic.APIStatusError) else f"{type(error).__name__}: {error}"
    raise WorldError(f"the API did not answer as it should: {words}") from error


def _words(error: anthropic.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        return str(body["error"].get("message"))
    return error.message
