"""The door to the API: the only module that imports `anthropic`, whose types stop here.

Bodies go out and results come in as bytes, through disk: no object per row. A create POST is made once and never
repeated here, because the API would take it twice.
"""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
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
POST_SECONDS = 600
NOT_SENT = 0  # in place of a status code: no connection, so nothing went out
STREAMED = {"X-Stainless-Raw-Response": "stream"}  # the SDK's own way to say: do not read the body for me


@dataclass(frozen=True, slots=True)
class BatchStatus:
    api_id: str
    status: str
    total: int
    created_at: datetime
    is_archived: bool

    @property
    def has_ended(self) -> bool:
        return self.status == "ended"


@dataclass(frozen=True, slots=True)
class Created:
    status: BatchStatus


@dataclass(frozen=True, slots=True)
class Refused:
    """The API certainly did not take the batch."""

    status_code: int
    message: str
    retry_after_seconds: float | None = None

    @property
    def is_too_large(self) -> bool:
        return self.status_code == 413

    @property
    def is_for_good(self) -> bool:
        return self.status_code not in (NOT_SENT, 409, 425, 429)


@dataclass(frozen=True, slots=True)
class Unknown:
    """No answer, or one that says nothing: the API may have the batch."""

    detail: str
    retry_after_seconds: float | None = None


class Claude:
    """A client for as long as an `async with` lasts. It repeats no call: whoever asks knows whether that is safe."""

    def __init__(self, api_key: str, base_url: str) -> None:
        self._api = anthropic.AsyncAnthropic(api_key=api_key, base_url=base_url, max_retries=0)

    async def __aenter__(self) -> "Claude":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()

    async def create_batch(self, body: Path, betas: Sequence[str] = ()) -> Created | Refused | Unknown:
        """Post a body from disk, once."""
        headers = {"content-type": "application/json", "content-length": str(body.stat().st_size)}
        if betas:
            headers["anthropic-beta"] = ",".join(betas)
        options: Any = {"headers": headers, "timeout": POST_SECONDS}
        try:
            answer = await self._api.post(BATCHES, cast_to=httpx2.Response, content=_chunks(body), options=options)
            return Created(_status(orjson.loads(answer.content)))
        except anthropic.APIStatusError as error:
            if error.status_code >= 500 or error.status_code == 408:
                return Unknown(f"{error.status_code}: {_words(error)}", _retry_after(error))
            return Refused(error.status_code, _words(error), _retry_after(error))
        except (anthropic.APIConnectionError, httpx2.HTTPError) as error:
            if isinstance(error.__cause__ or error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
                return Refused(NOT_SENT, f"no connection: {error.__cause__ or error}")
            return Unknown(f"{type(error).__name__}: {error}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return Unknown(f"an answer that is no batch: {error!r}")

    async def retrieve(self, api_id: str) -> BatchStatus | None:
        """A batch's status, or None when the API does not know it (yet, or any more)."""
        try:
            return _status(await self._read(f"{BATCHES}/{api_id}"))
        except anthropic.NotFoundError:
            return None

    async def newest(self) -> datetime | None:
        """The API's own date of the newest batch it lists, or None when it lists none."""
        page = await self._read(f"{BATCHES}?limit=1")
        return max((_status(each).created_at for each in page["data"]), default=None)

    async def list_since(self, moment: datetime | None) -> list[BatchStatus]:
        """The workspace's batches not older than `moment` on the API's clock, newest first; all for None."""
        found: list[BatchStatus] = []
        after = ""
        while True:
            page = await self._read(f"{BATCHES}?limit={LIST_PAGE}{after}")
            statuses = [_status(each) for each in page["data"]]
            young = [each for each in statuses if moment is None or each.created_at >= moment]
            found += young
            if not page.get("has_more") or len(young) < len(statuses):
                return found
            after = f"&after_id={statuses[-1].api_id}"

    async def first_lines(self, api_id: str, count: int) -> list[bytes] | None:
        """The first lines of an ended batch's results, or None when the API has none (yet, or any more)."""
        lines: list[bytes] = []
        rest = b""
        try:
            async with aclosing(self._results(api_id)) as chunks:
                async for chunk in chunks:
                    *whole, rest = (rest + chunk).split(b"\n")
                    lines += whole
                    if len(lines) >= count:
                        break
        except anthropic.NotFoundError:
            return None
        return [line for line in [*lines, rest] if line][:count]

    async def spool_results(self, api_id: str, into: Path) -> bool:
        """Bring a batch's results to disk. False when the API has none (yet, or any more).

        Raises WorldError when the stream was cut; one that ends too soon without a word is found out by filing.
        """
        part = into.with_suffix(".part")
        last = b"\n"
        try:
            with part.open("wb") as out:
                async for chunk in self._results(api_id):
                    out.write(chunk)
                    last = chunk[-1:] or last
                if last != b"\n":
                    out.write(b"\n")  # servers differ; a line cut short is found out by filing
                out.flush()
                os.fsync(out.fileno())
        except anthropic.NotFoundError:
            return False
        part.replace(into)
        return True

    async def cancel(self, api_id: str) -> None:
        """Ask for a batch to be canceled. One that has ended already is left as it is."""
        try:
            await self._api.post(f"{BATCHES}/{api_id}/cancel", cast_to=httpx2.Response)
        except (anthropic.BadRequestError, anthropic.NotFoundError, anthropic.ConflictError):
            return
        except (anthropic.APIError, httpx2.HTTPError) as error:
            _raise(error)

    async def _read(self, path: str) -> Any:
        """GET some JSON. Lets NotFoundError pass: what it means depends on the question."""
        try:
            answer = await self._api.get(path, cast_to=httpx2.Response)
            return orjson.loads(answer.content)
        except anthropic.NotFoundError:
            raise
        except (anthropic.APIError, httpx2.HTTPError, orjson.JSONDecodeError) as error:
            _raise(error)

    async def _results(self, api_id: str) -> AsyncGenerator[bytes]:
        """The bytes of a batch's results, as they come."""
        try:
            # Our own path, never the results_url of the reply: the key goes to the server we were told of.
            options: Any = {"headers": STREAMED}
            answer = await self._api.get(f"{BATCHES}/{api_id}/results", cast_to=httpx2.Response, options=options)
            try:
                async for chunk in answer.aiter_bytes(CHUNK_BYTES):
                    yield chunk
            finally:
                await answer.aclose()
        except anthropic.NotFoundError:
            raise
        except (anthropic.APIError, httpx2.HTTPError) as error:
            _raise(error)


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
    created_at = datetime.fromisoformat(found["created_at"])
    return BatchStatus(
        api_id=str(found["id"]),
        status=found["processing_status"],
        total=sum(found["request_counts"].values()),
        created_at=created_at if created_at.tzinfo else created_at.replace(tzinfo=UTC),
        is_archived=bool(found.get("archived_at")),
    )


def _raise(error: Exception) -> NoReturn:
    if isinstance(error, anthropic.AuthenticationError | anthropic.PermissionDeniedError):
        raise UserMistake(f"the API refused the key in ANTHROPIC_API_KEY: {_words(error)}") from None
    if isinstance(error, anthropic.APIStatusError):
        words, after = _words(error), _retry_after(error)
    else:
        words, after = f"{type(error).__name__}: {error}", None
    raise WorldError(f"the API did not answer as it should: {words}", retry_after_seconds=after) from error


def _retry_after(error: anthropic.APIStatusError) -> float | None:
    after = error.response.headers.get("retry-after", "")
    return float(after) if after.replace(".", "", 1).isdigit() else None


def _words(error: anthropic.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        return str(body["error"].get("message"))
    return error.message
