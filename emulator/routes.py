"""The HTTP routes of the emulated API: parse calls, ask the world, write responses."""

from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any

import orjson
from anyio import sleep, sleep_forever, to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from emulator.acts import Break, Damage, Lag
from emulator.controls import Controls
from emulator.damage import damaged, whole
from emulator.doorway import MESSAGE_BYTES, Caller, Doorway, body_of, close
from emulator.envelope import parse_json
from emulator.faults import Drop
from emulator.models import BY_NAME, MODELS, Model
from emulator.problems import Problem, invalid
from emulator.server_events import events_of
from emulator.world import World
from emulator.writing import written

BATCH_BYTES = 256 * 1024 * 1024
# So many results are worked out in a thread before the others get a turn.
ROWS_AT_ONCE = 100


class Routes:
    def __init__(self, world: World) -> None:
        self.world = world

    async def create_batch(self, request: Request, caller: Caller) -> Response:
        body = await body_of(request, BATCH_BYTES)
        batch = await to_thread.run_sync(self.world.accept, caller.workspace, body, caller.version, caller.betas)
        return _json(batch.view_at_birth(_address(request)))

    async def list_batches(self, request: Request, caller: Caller) -> Response:
        lag = caller.strike.act.lag_seconds if caller.strike and isinstance(caller.strike.act, Lag) else 0.0
        batches = await to_thread.run_sync(self.world.listed, caller.workspace, lag)
        page, has_more = _page(batches, request)
        now, address = self.world.clock.now(), _address(request)
        return _json(
            {
                "data": [batch.view(now, address) for batch in page],
                "has_more": has_more,
                "first_id": page[0].id if page else None,
                "last_id": page[-1].id if page else None,
            }
        )

    async def retrieve_batch(self, request: Request, caller: Caller) -> Response:
        batch = await to_thread.run_sync(self.world.find, caller.workspace, request.path_params["id"])
        now = self.world.clock.now()
        headers = {} if batch.has_ended(now) else {"retry-after": "10"}
        return _json(batch.view(now, _address(request)), headers)

    async def cancel_batch(self, request: Request, caller: Caller) -> Response:
        batch = self.world.cancel(caller.workspace, request.path_params["id"])
        assert batch.cancel_initiated_at
        return _json(batch.view(batch.cancel_initiated_at, _address(request)))

    async def delete_batch(self, request: Request, caller: Caller) -> Response:
        batch_id = request.path_params["id"]
        await to_thread.run_sync(self.world.delete, caller.workspace, batch_id)
        return _json({"id": batch_id, "type": "message_batch_deleted"})

    async def results(self, request: Request, caller: Caller) -> Response:
        lines = await to_thread.run_sync(self.world.results, caller.workspace, request.path_params["id"])
        pieces: Iterator[bytes | Drop] = whole(lines)
        if caller.strike and isinstance(caller.strike.act, Damage):
            pieces = damaged(lines, caller.strike.act, caller.strike.ordinal)
        return StreamingResponse(_in_chunks(pieces, request), media_type="application/x-jsonl")

    async def messages(self, request: Request, caller: Caller) -> Response:
        params = parse_json(await body_of(request, MESSAGE_BYTES))
        answer, given = self.world.direct.answer, (caller.workspace, params, caller.version, caller.betas)
        message, seconds, headers = await to_thread.run_sync(answer, *given)
        if params.get("stream"):
            broken = caller.strike.act if caller.strike and isinstance(caller.strike.act, Break) else None
            events = written(events_of(message), seconds, request, broken)
            return StreamingResponse(events, headers=headers, media_type="text/event-stream; charset=utf-8")
        await sleep(seconds)
        return _json(message, headers)

    async def count_tokens(self, request: Request, caller: Caller) -> Response:
        params = parse_json(await body_of(request, MESSAGE_BYTES))
        counted, headers = self.world.direct.count(caller.workspace, params, caller.version, caller.betas)
        return _json({"input_tokens": counted}, headers)

    async def list_models(self, request: Request, caller: Caller) -> Response:
        models = sorted(MODELS.values(), key=lambda model: model.released, reverse=True)
        page, has_more = _page(models, request)
        ends = {"first_id": page[0].id if page else None, "last_id": page[-1].id if page else None}
        return _json({"data": [_model_view(model) for model in page], "has_more": has_more, **ends})

    async def retrieve_model(self, request: Request, caller: Caller) -> Response:
        model = BY_NAME.get(request.path_params["id"])
        if model is None:
            raise Problem(404, f"model: {request.path_params['id']}")
        return _json(_model_view(model))

    async def nowhere(self, request: Request, caller: Caller) -> Response:
        raise Problem(404, f"Not found: {request.method} {request.url.path} is not emulated")


def create_app(world: World) -> Starlette:
    """Return the whole API as an ASGI application."""
    routes = Routes(world)
    handlers = {
        "POST /v1/messages": routes.messages,
        "POST /v1/messages/count_tokens": routes.count_tokens,
        "POST /v1/messages/batches": routes.create_batch,
        "GET /v1/messages/batches": routes.list_batches,
        "GET /v1/messages/batches/{id}": routes.retrieve_batch,
        "DELETE /v1/messages/batches/{id}": routes.delete_batch,
        "POST /v1/messages/batches/{id}/cancel": routes.cancel_batch,
        "GET /v1/messages/batches/{id}/results": routes.results,
        "GET /v1/models": routes.list_models,
        "GET /v1/models/{id}": routes.retrieve_model,
    }
    table = Controls(world).routes()
    for name, handler in handlers.items():
        method, path = name.split()
        table.append(Route(path, Doorway(world, handler, path), methods=[method]))
    table.append(Route("/{path:path}", Doorway(world, routes.nowhere, "/")))
    return Starlette(routes=table, exception_handlers={ClientDisconnect: _gone})


def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # nobody hears it


def _page(everything: list[Any], request: Request) -> tuple[list[Any], bool]:
    """A page of things with ids, and whether there are more in the direction it was asked for."""
    query = request.query_params
    limit = _limit(query.get("limit", "20"))
    ids = [each.id for each in everything]
    for name in ("after_id", "before_id"):
        if name in query and query[name] not in ids:
            raise invalid(f"{name}: {query[name]} not found")
    if "before_id" in query:
        newer = everything[: ids.index(query["before_id"])]
        return newer[max(0, len(newer) - limit) :], len(newer) > limit
    older = everything[ids.index(query["after_id"]) + 1 :] if "after_id" in query else everything
    return older[:limit], len(older) > limit


def _limit(text: str) -> int:
    try:
        limit = int(text)
    except ValueError:
        raise invalid("limit: Input should be a valid integer, unable to parse string as an integer") from None
    if limit < 1:
        raise invalid("limit: Input should be greater than or equal to 1")
    if limit > 1000:
        raise invalid("limit: Input should be less than or equal to 1000")
    return limit


async def _in_chunks(pieces: Iterator[bytes | Drop], request: Request) -> AsyncIterator[bytes]:
    while chunk := await to_thread.run_sync(list, islice(pieces, ROWS_AT_ONCE)):
        yield b"".join(piece for piece in chunk if isinstance(piece, bytes))
        if isinstance(chunk[-1], Drop):
            close(request)
            # The response has no end: the server drops it when it notices that the connection is gone.
            await sleep_forever()


def _model_view(model: Model) -> dict[str, Any]:
    supported = {"supported": True}
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.name,
        "created_at": f"{model.released.isoformat()}T00:00:00Z",
        "lifecycle": "active",
        "line": None,
        "max_input_tokens": model.context,
        "max_tokens": model.max_output,
        "capabilities": {"batch": supported, "structured_outputs": supported},
        "deprecated_at": None,
        "retires_at": None,
    }


def _address(request: Request) -> str:
    return f"{request.url.scheme}://{request.headers['host']}"


def _json(content: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), headers=headers, media_type="application/json")
