"""The client of the Claude API: the only module that calls it by `anthropic`, whose types stop here.

Bodies go out and results come in as bytes, through disk: no object per row. A create POST is never repeated here,
because the API would take it twice.
"""

from __future__ import annotations  # the SDK's types: it is imported when something is first asked

import os
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import anthropic
import httpx2
import orjson

from rowtide.agent import reply_parsing
from rowtide.agent.reply_parsing import LINE_BYTES
from rowtide.api import api_outcomes
from rowtide.api.api_errors import (
    connection_error_text,
    error_type,
    never_left,
    not_connected_text,
    raise_api_error,
    retry_after,
    status_error_text,
)
from rowtide.api.api_identity import api_name
from rowtide.api.api_outcomes import (
    BatchCreated,
    BatchRefused,
    BatchStatus,
    Exchange,
    LiveRejection,
    LiveReply,
    OutcomeUnknown,
)
from rowtide.api.secret_placeholders import SealedBody
from rowtide.json_bytes import parse_json
from rowtide.lanes.rate_limiter import limits_from_headers
from rowtide.masking import mask_secrets
from rowtide.tools.http_bounds import response_bounds

Parsed = TypeVar("Parsed")

MESSAGES = "/v1/messages"
BATCHES = f"{MESSAGES}/batches"
CHUNK_BYTES = 1 << 20
ANSWER_BYTES = 64_000_000
LIST_PAGE = 100
POST_SECONDS = 600
WHO = "/_emulator"
WHO_SECONDS = 5
# What a body of unexpected shape can raise while it is parsed, here or in the SDK.
NO_JSON = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)
NO_STREAM = (*NO_JSON, AssertionError, RuntimeError)
STREAMED = {"X-Stainless-Raw-Response": "stream"}  # tells the SDK not to read the body


class Claude:
    """A client for the length of an `async with`. It retries nothing: the caller knows whether that is safe."""

    def __init__(self, api_key: str, base_url: str, api: str | None = None) -> None:
        self.api = api or api_name(base_url)
        """Its name in the ledger."""
        self.date_header = ""
        """The `Date` header of the last response that was read; empty before the first."""
        hooks = response_bounds(ANSWER_BYTES, streams=True, packed=True, but="/results")
        http = anthropic.DefaultAsyncHttpxClient(verify=_tls(), event_hooks=hooks)
        self._api = anthropic.AsyncAnthropic(api_key=api_key, base_url=base_url, max_retries=0, http_client=http)

    async def __aenter__(self) -> Claude:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()

    async def is_emulator(self) -> bool:
        """Return whether the server says that it makes answers up. No answer means False."""
        try:
            options: Any = {"timeout": WHO_SECONDS}
            answer = await self._api.get(WHO, cast_to=httpx2.Response, options=options)
            return orjson.loads(answer.content)["makes_up_answers"] is True
        except (anthropic.APIError, httpx2.HTTPError, ValueError, LookupError, TypeError):
            return False

    async def create_batch(
        self, body: SealedBody, betas: Sequence[str] = ()
    ) -> BatchCreated | BatchRefused | OutcomeUnknown:
        """Post a body once."""
        headers = {"content-type": "application/json", "content-length": str(body.length)}
        if betas:
            headers["anthropic-beta"] = ",".join(betas)
        options: Any = {"headers": headers, "timeout": POST_SECONDS}
        try:
            answer = await self._api.post(BATCHES, cast_to=httpx2.Response, content=body.sent(), options=options)
            return BatchCreated(api_outcomes.parse_batch_status(orjson.loads(answer.content)))
        except anthropic.APIStatusError as error:
            if error.status_code >= 500 or error.status_code == 408:
                return OutcomeUnknown(f"{error.status_code}: {status_error_text(error)}", retry_after(error))
            return BatchRefused(error.status_code, status_error_text(error), retry_after(error))
        except (anthropic.APIConnectionError, httpx2.HTTPError) as error:
            if never_left(error):
                return BatchRefused(api_outcomes.NOT_SENT, not_connected_text(error))
            return OutcomeUnknown(connection_error_text(error))
        except NO_JSON as error:
            return OutcomeUnknown(mask_secrets(f"the response is not a batch: {error!r:.300}"))

    async def create_message(
        self, request: bytes, betas: Sequence[str] = (), on_text: Callable[[str], None] | None = None
    ) -> LiveReply | LiveRejection | OutcomeUnknown:
        """Ask for one live reply, once; `on_text` gets its text as it is written. `request` is a JSON object."""
        headers = {"anthropic-beta": ",".join(betas)} if betas else {}
        try:
            if on_text is not None:
                return await self._listen(parse_json(request), headers, on_text)
            options: Any = {"headers": {"content-type": "application/json", **headers}, "timeout": POST_SECONDS}
            answer = await self._api.post(MESSAGES, cast_to=httpx2.Response, content=request, options=options)
            return LiveReply(reply_parsing.parse_live_body(answer.content), limits_from_headers(answer.headers))
        except anthropic.APIStatusError as error:
            if error.status_code in (200, 408, 504):  # 200: the stream broke off with an error
                return OutcomeUnknown(f"{error.status_code}: {status_error_text(error)}", retry_after(error))
            return LiveRejection(error.status_code, error_type(error), status_error_text(error), retry_after(error))
        except (anthropic.APIError, httpx2.HTTPError) as error:
            if never_left(error):
                return LiveRejection(api_outcomes.NOT_SENT, "timeout_error", not_connected_text(error))
            return OutcomeUnknown(connection_error_text(error))
        except NO_STREAM as error:
            return OutcomeUnknown(mask_secrets(f"the stream is not valid: {error!r:.300}"))

    async def _listen(
        self, request: dict[str, Any], headers: dict[str, str], on_text: Callable[[str], None]
    ) -> LiveReply | OutcomeUnknown:
        named = {name: request.pop(name) for name in ("model", "max_tokens", "messages")}
        async with self._api.messages.stream(
            **named, extra_body=request, extra_headers=headers, timeout=POST_SECONDS
        ) as stream:
            async for words in stream.text_stream:
                on_text(words)
            message = await stream.get_final_message()
            if message.stop_reason is None:
                return OutcomeUnknown("the stream ended before the reply did")
            outcome = reply_parsing.parse_streamed_message(message.to_dict())
            return LiveReply(outcome, limits_from_headers(stream.response.headers))

    async def count_tokens(self, request: bytes) -> int:
        """Return how many tokens the API would read of a request. Free. Raises WorldError."""
        options: Any = {"headers": {"content-type": "application/json"}}
        try:
            answer = await self._api.post(
                f"{MESSAGES}/count_tokens", cast_to=httpx2.Response, content=request, options=options
            )
            return int(orjson.loads(answer.content)["input_tokens"])
        except (anthropic.APIError, httpx2.HTTPError, *NO_JSON) as error:
            raise_api_error(error)

    async def exchange(self, method: Literal["GET", "POST"], path: str, body: bytes = b"") -> Exchange:
        """Return what the API answers, whatever its status, unread. Raises WorldError where nothing is answered."""
        options: Any = {"headers": {"content-type": "application/json"} if body else {}, "timeout": POST_SECONDS}
        try:
            if method == "GET":
                answer = await self._api.get(path, cast_to=httpx2.Response, options=options)
            else:
                answer = await self._api.post(path, cast_to=httpx2.Response, content=body, options=options)
        except anthropic.APIStatusError as error:
            return Exchange(error.status_code, error.response.content)
        except (anthropic.APIError, httpx2.HTTPError) as error:
            raise_api_error(error)
        return Exchange(answer.status_code, answer.content)

    async def retrieve(self, api_id: str) -> BatchStatus | None:
        """Return a batch's status, or None when the API does not know it (yet, or any more). Raises WorldError."""
        try:
            return await self._read(f"{BATCHES}/{api_id}", api_outcomes.parse_batch_status)
        except anthropic.NotFoundError:
            return None

    async def newest(self) -> datetime | None:
        """Return the API's date of the newest batch it lists, or None when it lists none. Raises WorldError."""
        listed, _ = await self._read(f"{BATCHES}?limit=1", api_outcomes.parse_batch_list)
        return max((each.created_at for each in listed), default=None)

    async def list_since(self, moment: datetime | None) -> list[BatchStatus]:
        """Return the workspace's batches not older than `moment` on the API's clock, newest first; all for None."""
        found: dict[str, BatchStatus] = {}
        after = ""
        while True:
            listed, has_more = await self._read(f"{BATCHES}?limit={LIST_PAGE}{after}", api_outcomes.parse_batch_list)
            young = {each.api_id: each for each in listed if moment is None or each.created_at >= moment}
            brought = young.keys() - found.keys()
            found |= young
            if not has_more or not brought or len(young) < len(listed):  # a list that repeats itself ends here
                return list(found.values())
            after = f"&after_id={listed[-1].api_id}"

    async def first_lines(self, api_id: str, count: int) -> list[bytes] | None:
        """Return the first lines of an ended batch's results, or None when the API has none (yet, or any more)."""
        lines: list[bytes] = []
        rest = b""
        try:
            async with aclosing(self._results(api_id)) as chunks:
                async for chunk in chunks:
                    *whole, rest = (rest + chunk).split(b"\n")
                    lines += whole
                    if len(lines) >= count or len(rest) > LINE_BYTES:
                        break
        except anthropic.NotFoundError:
            return None
        return [line for line in [*lines, rest] if line][:count]

    async def spool_results(self, api_id: str, into: Path) -> bool:
        """Write a batch's results to disk. Returns False when the API has none (yet, or any more).

        Raises WorldError when the stream breaks off; one that ends early without an error is noticed by filing.
        """
        part = into.with_suffix(".part")
        last = b"\n"
        try:
            with part.open("wb") as out:
                async for chunk in self._results(api_id):
                    out.write(chunk)
                    last = chunk[-1:] or last
                if last != b"\n":
                    out.write(b"\n")  # servers differ; filing notices a truncated line
                out.flush()
                os.fsync(out.fileno())
        except anthropic.NotFoundError:
            return False
        part.replace(into)
        return True

    async def cancel(self, api_id: str) -> None:
        """Ask the API to cancel a batch. A batch that has ended stays as it is."""
        try:
            await self._api.post(f"{BATCHES}/{api_id}/cancel", cast_to=httpx2.Response)
        except (anthropic.BadRequestError, anthropic.NotFoundError, anthropic.ConflictError):
            return
        except (anthropic.APIError, httpx2.HTTPError) as error:
            raise_api_error(error)

    async def _read(self, path: str, parse: Callable[[Any], Parsed]) -> Parsed:
        """GET JSON and parse it. Raises NotFoundError, whose meaning the caller knows, UserMistake and WorldError."""
        try:
            answer = await self._api.get(path, cast_to=httpx2.Response)
            self.date_header = answer.headers.get("date", "")
            return parse(orjson.loads(answer.content))
        except anthropic.NotFoundError:
            raise
        except (anthropic.APIError, httpx2.HTTPError, *NO_JSON) as error:
            raise_api_error(error)

    async def _results(self, api_id: str) -> AsyncGenerator[bytes]:
        """Yield the bytes of a batch's results as they arrive."""
        try:
            # Our own path, never the reply's results_url: the key goes only to the configured server.
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
            raise_api_error(error)


@cache
def _tls() -> ssl.SSLContext:
    """The machine's certificates: reading them takes 20 ms, so once a process and not once a stage."""
    return httpx2.create_ssl_context()
