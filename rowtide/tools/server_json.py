"""Turn the MCP registry's server.json (2025-12-11) into a program or a URL to reach a server at.

Whoever wrote it describes how to start the server; what a user must add is a `${NAME}`, taken from the environment when
the server is started, or stands in the job's `args`, `env` and `headers`. So no secret is pinned with a run.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from rowtide.errors import UserMistake
from rowtide.job.job_spec import ToolServerSpec


class Part(BaseModel):
    """A part of a server.json. Strangers write it, so unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel)


class Input(Part):
    value: str | None = None
    default: str | None = None
    is_required: bool = False
    variables: dict[str, "Input"] = {}


class Named(Input):
    name: str


class Argument(Input):
    type: str = "positional"
    name: str | None = None
    value_hint: str | None = None


class Transport(Part):
    type: str = "stdio"


class Package(Part):
    registry_type: str
    identifier: str
    version: str | None = None
    runtime_hint: str | None = None
    transport: Transport = Transport()
    runtime_arguments: list[Argument] = []
    package_arguments: list[Argument] = []
    environment_variables: list[Named] = []


class Remote(Part):
    type: str
    url: str
    headers: list[Named] = []
    variables: dict[str, Input] = {}


class ServerJson(Part):
    name: str
    version: str
    packages: list[Package] = []
    remotes: list[Remote] = []


def server_place(
    server: ServerJson, spec: ToolServerSpec, environment: Mapping[str, str], *, key: str
) -> dict[str, Any]:
    """The place of a server, as keys of a ToolServerSpec. Raises UserMistake when Rowtide cannot reach it that way."""
    remotes = [each for each in server.remotes if each.type == "streamable-http"]
    packages = [each for each in server.packages if each.registry_type in RUNNERS and each.transport.type == "stdio"]
    if packages and spec.placement == "local":
        return _program(packages[0], spec, environment, key)
    if remotes:
        return _address(remotes[0], spec, environment)
    has = sorted({f"{each.registry_type} ({each.transport.type})" for each in server.packages})
    has += sorted({f"a remote ({each.type})" for each in server.remotes})
    wanted = "npm or pypi over stdio, or streamable-http" if spec.placement == "local" else "a streamable-http remote"
    raise UserMistake(f"{server.name} comes as {', '.join(has) or 'nothing'}; what is needed is {wanted}", key=key)


def _program(package: Package, spec: ToolServerSpec, environment: Mapping[str, str], key: str) -> dict[str, Any]:
    """`<runtime> <runtime arguments> <package> <package arguments>`, as the format says."""
    before = _arguments(package.runtime_arguments, spec, environment, key)
    after = _arguments(package.package_arguments, spec, environment, key)
    command, arguments = RUNNERS[package.registry_type](package, before)
    variables = {each.name: _value(each, each.name, environment) for each in package.environment_variables}
    given = {name: value for name, value in variables.items() if value is not None}
    return {"command": command, "args": [*arguments, *after], "env": given}


def _npm(package: Package, before: list[str]) -> tuple[str, list[str]]:
    yes = [] if {"-y", "--yes"} & set(before) else ["-y"]  # nobody is there to say it
    return package.runtime_hint or "npx", [*yes, *before, _pinned(package)]


def _pypi(package: Package, before: list[str]) -> tuple[str, list[str]]:
    # With --from the identifier is only the name of the command.
    is_named = any(each.startswith("--from") for each in before)
    return package.runtime_hint or "uvx", [*before, package.identifier if is_named else _pinned(package)]


RUNNERS: dict[str, Callable[[Package, list[str]], tuple[str, list[str]]]] = {"npm": _npm, "pypi": _pypi}


def _pinned(package: Package) -> str:
    return f"{package.identifier}@{package.version}" if package.version else package.identifier


def _arguments(described: list[Argument], spec: ToolServerSpec, environment: Mapping[str, str], key: str) -> list[str]:
    found: list[str] = []
    for each in described:
        called = each.value_hint or each.name or "argument"
        # A switch of no value is meant as it stands; an argument without one is for the job to give.
        is_switch = each.type == "named" and each.value is None and each.default is None and not each.value_hint
        value = _template(each, environment)
        if value is None and not is_switch:
            if each.is_required and not spec.args:
                raise UserMistake(f"the server needs {called!r}: give it under `args`", key=f"{key}.args")
            continue
        if is_switch and not each.is_required:
            continue
        found += [each.name] if each.type == "named" and each.name else []
        found += [value] if value is not None else []
    return found


def _address(remote: Remote, spec: ToolServerSpec, environment: Mapping[str, str]) -> dict[str, Any]:
    url = _template(Input(value=remote.url, variables=remote.variables), environment)
    headers = {each.name: _value(each, each.name, environment) for each in remote.headers}
    given = {name: value for name, value in headers.items() if value is not None and name not in spec.headers}
    return {"url": url, "headers": given}


def _value(described: Input, name: str, environment: Mapping[str, str]) -> str | None:
    """The described value, or `${NAME}` where the user sets it; None where it is optional and not set."""
    value = _template(described, environment)
    if value is not None:
        return value
    called = _variable(name)
    return f"${{{called}}}" if described.is_required or called in environment else None


def _template(described: Input, environment: Mapping[str, str]) -> str | None:
    """A value whose `{variables}` are replaced by their defaults, or by `${NAME}` for the environment."""
    value = described.value if described.value is not None else described.default
    if value is None:
        return None

    def known(found: re.Match[str]) -> str:
        variable = described.variables.get(found[1], Input())
        return _value(variable, found[1], environment) or f"${{{_variable(found[1])}}}"

    return re.sub(r"(?<!\$)\{(\w[\w-]*)\}", known, value)


def _variable(name: str) -> str:
    """A name as a shell variable: `X-API-Key` is X_API_KEY, and `token` is TOKEN."""
    return re.sub(r"\W", "_", name).upper()
