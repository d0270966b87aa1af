"""The emulator's own HTTP endpoints under /_emulator: accounts, clock, settings and faults."""

from typing import Any

import orjson
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from emulator.clock import rfc3339
from emulator.envelope import parse_json
from emulator.identifiers import fresh_id, workspace_of
from emulator.plan import PlanError
from emulator.problems import Problem, invalid
from emulator.settings import SettingsError
from emulator.world import World


class Controls:
    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        return [
            Route("/_emulator", self.who),
            Route("/_emulator/ledger", self.ledger),
            Route("/_emulator/clock", self.clock, methods=["GET", "POST"]),
            Route("/_emulator/settings", self.settings, methods=["GET", "PUT", "DELETE"]),
            Route("/_emulator/faults", self.faults, methods=["GET", "PUT", "DELETE"]),
        ]

    async def who(self, _: Request) -> Response:
        """Tell that this is an emulator, so that a client can keep its answers apart from a model's."""
        return _json({"name": "Claude API emulator", "makes_up_answers": True})

    async def ledger(self, request: Request) -> Response:
        """Return everybody's accounts, or with `?api_key=` those of one."""
        if api_key := request.query_params.get("api_key"):
            return _json({"account": await to_thread.run_sync(self._world.bill_of, api_key)})
        return _json(await to_thread.run_sync(self._world.ledger))

    async def clock(self, request: Request) -> Response:
        if request.method == "POST":
            try:
                seconds = float(parse_json(await request.body()).get("advance_seconds", 0))
            except Problem as problem:
                return _refused(problem)
            self._world.clock.advance(seconds)
        return _json({"now": rfc3339(self._world.clock.now())})

    async def settings(self, request: Request) -> Response:
        """Read or change settings: rates, seconds a reply takes, which rows are hard. PUT changes what it names, DELETE
        restores the defaults.

        With `?api_key=` those of one account, and what is left of its rates.
        """
        book, api_key = self._world.settings, request.query_params.get("api_key")
        try:
            if request.method == "PUT":
                book.change(api_key, **parse_json(await request.body()))
            elif request.method == "DELETE":
                book.reset(api_key)
        except Problem as problem:
            return _refused(problem)
        except SettingsError as error:
            return _refused(invalid(str(error)))
        workspace = workspace_of(api_key) if api_key else None
        rates = self._world.direct.limits.view(workspace) if workspace else {}
        return _json({**book.of(workspace).model_dump(mode="json"), **rates})

    async def faults(self, request: Request) -> Response:
        """Return the plan, with how often each rule has been applied. PUT replaces it, DELETE clears it."""
        faults = self._world.faults
        try:
            if request.method == "PUT":
                faults.load(await request.body())
            elif request.method == "DELETE":
                faults.clear()
        except PlanError as error:
            return _refused(invalid(str(error)))
        return _json(faults.aim.view())


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def _refused(problem: Problem) -> Response:
    return Response(problem.body(fresh_id("req")), problem.status, media_type="application/json")
