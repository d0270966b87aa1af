"""Accept a batch's rows and decide each row's outcome, which is shown only once the batch has ended."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from emulator.faults import Faults, unanswered
from emulator.models import Model
from emulator.problems import Problem
from emulator.thinking import heard
from emulator.tokens import Prefix, cached_prefix
from emulator.validation import check_row


@dataclass
class Intake:
    workspace: str
    version: str
    betas: tuple[str, ...]
    faults: Faults
    errored: list[int] = field(default_factory=list)
    connected: list[int] = field(default_factory=list)
    spoilt: dict[str, dict[str, Any]] = field(default_factory=dict)
    twists: dict[str, dict[str, Any]] = field(default_factory=dict)
    prefixes: dict[str, tuple[Prefix, int]] = field(default_factory=dict)
    """Each cacheable prefix, with the first row that holds it."""

    def lines(self, requests: list[dict[str, Any]]) -> Iterator[bytes]:
        """Yield the rows as they are stored, one line each. Empties `requests` on the way, so that a batch is not held
        twice.
        """
        for row, request in enumerate(requests):
            self._judge(row, request)
            yield orjson.dumps(request)
            requests[row] = {}

    def _judge(self, row: int, request: dict[str, Any]) -> None:
        params = request["params"]
        self._spoil(row, params)
        # What is not answered has no part in the prompt cache either.
        if str(row) in self.spoilt:
            return
        try:
            accepted_row(params, self.workspace, self.version, self.betas)
        except Problem:
            self.errored.append(row)
            return
        if params.get("mcp_servers"):
            self.connected.append(row)
        prefix = cached_prefix(params)
        if prefix and prefix.key not in self.prefixes:
            self.prefixes[prefix.key] = (prefix, row)

    def _spoil(self, row: int, params: dict[str, Any]) -> None:
        planned = self.faults.aim.at_row(self.workspace, row, params)
        if planned is None:
            return
        if result := unanswered(planned, params.get("model")):
            self.spoilt[str(row)] = result
        else:
            self.twists[str(row)] = planned.model_dump(exclude_none=True)


def accepted_row(params: dict[str, Any], workspace: str, version: str, betas: tuple[str, ...]) -> Model:
    """The model that will answer a row, or the problem that makes it errored."""
    model = check_row(params, version, betas)
    heard(params, model, workspace, batch=True)
    return model
