"""Which server answers for a capability: looked up in a YAML file, or in a server that speaks the MCP registry's API.

A job may say what it needs instead of who does it. What was found is pinned, name and version, and stays with the run.
"""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson
from pydantic import Field, model_validator

from rowtide.errors import UserMistake, WorldError, nearest
from rowtide.job.job import ToolServerSpec
from rowtide.tools.server_json import ServerJson, placed
from rowtide.tools.stubs import Written, checked, read_strictly

ASK_SECONDS = 30
PAGE_SERVERS = 100
MOST_PAGES = 50
ABOVE = 2  # folders above a job's: that of all jobs, and the one that it is in
OFFICIAL = "io.modelcontextprotocol.registry/official"


class Entry(Written):
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
    def _one_place(self) -> "Entry":
        if [self.command, self.url, self.stub, self.server_json].count(None) != 3:
            raise ValueError("give one of `command`, `url`, `stub` and `server_json`")
        if self.server_json is None and not self.name:
            raise ValueError("a server needs a `name`")
        return self


class Registry(Written):
    servers: list[Entry] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pinned:
    """The server that a job's tools come from: what a run must remember, for the next day may list another."""

    spec: ToolServerSpec
    name: str
    version: str | None


async def concrete(
    specs: Mapping[str, ToolServerSpec], *, registry: str, folder: Path, environment: Mapping[str, str]
) -> dict[str, Pinned]:
    """Every server of a job with its place known. Raises UserMistake for a capability nobody has."""
    return {
        name: await resolve(name, spec, registry, folder, environment)
        if spec.capability is not None
        else Pinned(spec, name, None)
        for name, spec in specs.items()
    }


async def resolve(
    name: str, spec: ToolServerSpec, registry: str, folder: Path, environment: Mapping[str, str]
) -> Pinned:
    """The server a registry lists for the capability that `spec` asks for."""
    key = f"tools.{name}.capability"
    if registry.startswith(("http://", "https://")):
        found = await _ask(registry, spec.capability or "", key)
        place = placed(found, spec, environment, key=f"tools.{name}")
        return Pinned(_filled_in(spec, place), found.name, found.version)
    file = _file(registry, folder, key)
    entry = _entry_for(spec.capability or "", read_strictly(file, Registry), file, key)
    if entry.server_json is not None:
        found = read_strictly(file.parent / entry.server_json, ServerJson)
        place = placed(found, spec, environment, key=f"tools.{name}")
        pinned = (entry.name or found.name, entry.version or found.version)
    else:
        place = entry.model_dump(include={"command", "args", "env", "url", "headers"})
        place["stub"] = entry.stub and (file.parent / entry.stub).resolve()
        pinned = (entry.name or "", entry.version)
    return Pinned(_filled_in(spec, {**place, "read_only": entry.read_only}), *pinned)


def _filled_in(spec: ToolServerSpec, place: Mapping[str, Any]) -> ToolServerSpec:
    """What the registry says of the place, and what the job says of everything else. The job's word comes last."""
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


def _entry_for(capability: str, registry: Registry, file: Path, key: str) -> Entry:
    """The first server in the file that has the capability, or is called so."""
    for entry in registry.servers:
        if capability in entry.capabilities or capability == entry.name:
            return entry
    known = sorted({each for entry in registry.servers for each in entry.capabilities})
    what = f"no server has the capability {capability!r}; there are {', '.join(known) or 'none'}"
    raise UserMistake(what, file=file, key=key, meant=nearest(capability, known))


async def _ask(url: str, capability: str, key: str) -> ServerJson:
    """The one server in a registry that is called so: by its whole name, or by the last part of it."""
    listed = await _search(url, capability, key)
    named = [each for each in listed if each.name == capability]
    called = [each for each in listed if each.name.rpartition("/")[2] == capability]
    for found in (named, called, listed):
        if len(found) == 1:
            return found[0]
    names = sorted({each.name for each in called or listed})
    if not names:
        raise UserMistake(f"no server is found for {capability!r}", file=url, key=key)
    several = (
        f"{len(names)} servers are found for {capability!r}; ask for one by its whole name: {', '.join(names[:10])}"
    )
    raise UserMistake(several, file=url, key=key, meant=nearest(capability, names))


async def _search(url: str, capability: str, key: str) -> list[ServerJson]:
    found: list[ServerJson] = []
    asked = {"search": capability.rpartition("/")[2], "version": "latest", "limit": str(PAGE_SERVERS)}
    async with httpx2.AsyncClient(timeout=ASK_SECONDS, follow_redirects=True) as web:
        for _ in range(MOST_PAGES):
            page = await _page(web, f"{url.rstrip('/')}/v0.1/servers", asked, key)
            for listed in page.get("servers") or []:
                if _is_current(listed.get("_meta") or {}):
                    found.append(checked(listed.get("server"), ServerJson, url))
            cursor = (page.get("metadata") or {}).get("nextCursor")
            if not cursor:
                break
            asked["cursor"] = str(cursor)
    return found


async def _page(web: httpx2.AsyncClient, url: str, asked: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        answer = await web.get(url, params=dict(asked))
    except httpx2.HTTPError as error:
        raise WorldError(f"the registry {url} cannot be reached: {error or type(error).__name__}") from None
    if answer.status_code >= 500 or answer.status_code == 429:
        raise WorldError(f"the registry {url} says {answer.status_code}")
    try:
        page = orjson.loads(answer.content) if answer.is_success else None
    except orjson.JSONDecodeError:
        page = None
    if not isinstance(page, dict):
        raise UserMistake(f"this is no MCP registry: it says {answer.status_code}", file=url, key=key)
    return page


def _is_current(meta: Mapping[str, Any]) -> bool:
    official = meta.get(OFFICIAL) or {}
    return official.get("status", "active") != "deleted" and official.get("isLatest", True) is not False
