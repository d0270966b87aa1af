"""Tool servers that an operator configures in Prefect, laid over those of jobs and registries.

A secret is a `${NAME}` here, as in `job.yaml`: its value is filled in when the server is started, and is kept nowhere.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from rowtide.job.job_spec import ToolServerSpec


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """Where one server is: a program, a URL, or neither where only `env` and `headers` are added to the job's own."""

    command: str | None = None
    args: list[str] = field(default_factory=list[str])
    env: dict[str, str] = field(default_factory=dict[str, str])
    url: str | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class OperatorServers:
    """What operators configured: each server's place by its block's name, and the values of the `${NAME}` in them."""

    places: Mapping[str, ServerPlace] = field(default_factory=dict[str, ServerPlace])
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])


NOTHING_PROVIDED = OperatorServers()


def secret_variable(*words: str) -> str:
    """The variable of a secret: `secret_variable("shop", "headers", "X-Key")` is ROWTIDE_TOOL_SHOP_HEADERS_X_KEY."""
    return re.sub(r"\W", "_", "_".join(["ROWTIDE_TOOL", *words])).upper()


def apply_operator_servers(
    job: str, specs: Mapping[str, ToolServerSpec], provided: OperatorServers
) -> dict[str, ToolServerSpec]:
    """A job's servers with the operators' settings laid over them. Which tools may be called, the job decides."""
    return {name: _provide(job, name, spec, provided.places) for name, spec in specs.items()}


def _provide(job: str, name: str, spec: ToolServerSpec, places: Mapping[str, ServerPlace]) -> ToolServerSpec:
    """The server's spec with the first block laid over it that is called JOB-SERVER, SERVER, or as its capability."""
    for each in (f"{job}-{name}", name, spec.capability or name):
        if place := places.get(re.sub(r"[^a-z0-9]", "-", each.lower())):
            return _at(place, spec)
    return spec


def _at(place: ServerPlace, spec: ToolServerSpec) -> ToolServerSpec:
    keys: dict[str, object] = {"env": {**spec.env, **place.env}, "headers": {**spec.headers, **place.headers}}
    if place.command or place.url:
        keys |= {"command": place.command, "args": place.args, "url": place.url}
        keys |= dict.fromkeys(("python", "stub", "capability"))
    return ToolServerSpec.model_validate({**spec.model_dump(), **keys})
