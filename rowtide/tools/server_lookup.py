"""Resolve a capability to a tool server, from a YAML file or from an MCP registry.

A job may say what it needs instead of who does it. What was found is pinned, name and version, and stays with the run.
"""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from rowtide.errors import UserMistake, nearest_name
from rowtide.job.job_spec import ToolServerSpec
from rowtide.tools.registry_search import find_server, registry_url_shown
from rowtide.tools.server_json import ServerJson, server_place
from rowtide.tools.stubs import StrictModel, read_strictly
from rowtide.tools.trust import AllowedServer, found_server

ABOVE = 2  # folders above a job's: that of all jobs, and the one that it is in


class RegistryEntry(StrictModel):
    """A server in `registry.yaml`."""

    name: str | None = None
    """Its name, if possible as the MCP registry has it; from `server_json` when there is one."""
    version: str | None = None
    """Its version; from `server_json` when there is one."""
    capabilities: list[str] = Field(min_length=1)
    """What it is asked for by."""
    command: str | None = None
    args: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    stub: Path | None = None
    """A stub, relative to this file."""
    server_json: Path | None = None
    """A server.json of the MCP registry (2025-12-11), relative to this file."""
    read_only: list[str] = Field(default_factory=list)
    """Tools that change nothing although the server does not say so."""

    @model_validator(mode="after")
    def _one_place(self) -> "RegistryEntry":
        if [self.command, self.url, self.stub, self.server_json].count(None) != 3:
            raise ValueError("give one of `command`, `url`, `stub` and `server_json`")
        if self.server_json is None and not self.name:
            raise ValueError("a server needs a `name`")
        return self


class Registry(StrictModel):
    servers: list[RegistryEntry] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pinned:
    """The server found for a job's tools, by name and version. A run keeps it, since the registry may list another
    tomorrow.
    """

    spec: ToolServerSpec
    name: str
    version: str | None
    found: AllowedServer | None = None
    """As a person must have allowed it; None where nothing is started or called on a registry's word."""


class _Anything(dict[str, str]):
    """A mapping that has every name, instead of an environment."""

    def __contains__(self, key: object) -> bool:
        return True


async def resolve_servers(
    specs: Mapping[str, ToolServerSpec], *, registry: str, folder: Path, environment: Mapping[str, str]
) -> dict[str, Pinned]:
    """Every server of a job with its place resolved. Raises UserMistake for a capability that no server has."""
    return {
        name: await resolve_capability(name, spec, registry, folder, environment)
        if spec.capability is not None
        else Pinned(spec, name, None)
        for name, spec in specs.items()
    }


async def resolve_capability(
    name: str, spec: ToolServerSpec, registry: str, folder: Path, environment: Mapping[str, str]
) -> Pinned:
    """The server that the registry lists for the capability in `spec`."""
    key, capability = f"tools.{name}.capability", spec.capability or ""
    if "://" in registry:
        listed = await find_server(registry, capability, key, environment)
        return _described(listed, spec, environment, key, registry_url_shown(registry, environment))
    file = _file(registry, folder, key)
    entry = _entry_for(capability, read_strictly(file, Registry), file, key)
    if entry.server_json is not None:
        listed = read_strictly(file.parent / entry.server_json, ServerJson)
        return _described(listed, spec, environment, key, registry, entry)
    place = entry.model_dump(include={"command", "args", "env", "url", "headers"})
    called, entry_json = entry.name or "", entry.model_dump(mode="json")
    found = None if entry.stub else found_server(capability, registry, called, entry.version, place, entry_json)
    place |= {"stub": entry.stub and (file.parent / entry.stub).resolve(), "read_only": entry.read_only}
    return Pinned(_filled_in(spec, place), called, entry.version, found)


def _described(
    listed: ServerJson,
    spec: ToolServerSpec,
    environment: Mapping[str, str],
    key: str,
    registry: str,
    entry: RegistryEntry | None = None,
) -> Pinned:
    """The pinned server that a server.json describes, together with an entry of our own if there is one."""
    where = key.removesuffix(".capability")
    name = (entry and entry.name) or listed.name
    version = (entry and entry.version) or listed.version
    entry_json = [listed.model_dump(mode="json"), entry and entry.model_dump(mode="json")]
    at_most = server_place(listed, spec, _Anything(), key=where)  # all that it may be given: the same on every machine
    found = found_server(spec.capability or "", registry, name, version, at_most, entry_json)
    place = server_place(listed, spec, environment, key=where) | {"read_only": entry.read_only if entry else []}
    return Pinned(_filled_in(spec, place), name, version, found)


def _filled_in(spec: ToolServerSpec, place: Mapping[str, Any]) -> ToolServerSpec:
    """The spec with its place from the registry and everything else from the job. The job's values win."""
    asked = spec.model_dump(exclude={"capability", "command", "url", "stub"})
    return ToolServerSpec.model_validate(
        {
            **asked,
            **{key: place.get(key) for key in ("command", "url", "stub")},
            "args": [*place.get("args", []), *spec.args],
            "env": {**place.get("env", {}), **spec.env},
            "headers": {**place.get("headers", {}), **spec.headers},
            "read_only": [*spec.read_only, *place.get("read_only", [])],
        }
    )


def _file(registry: str, folder: Path, key: str) -> Path:
    for above in (folder, *folder.absolute().parents[:ABOVE]):
        is_shared = above.stat().st_mode & stat.S_ISVTX  # such as /tmp: anybody may have put it there
        if (file := above / registry).is_file() and not is_shared:
            return file.resolve()
    words = f"no {registry!r}, neither in {folder.name}/ nor in the {ABOVE} folders above it"
    raise UserMistake(words, file="job.yaml", key=key)


def _entry_for(capability: str, registry: Registry, file: Path, key: str) -> RegistryEntry:
    """The first server in the file that has the capability, or is called so."""
    for entry in registry.servers:
        if capability in entry.capabilities or capability == entry.name:
            return entry
    known = sorted({each for entry in registry.servers for each in entry.capabilities})
    what = f"no server has the capability {capability!r}; there are {', '.join(known) or 'none'}"
    raise UserMistake(what, file=file, key=key, meant=nearest_name(capability, known))
