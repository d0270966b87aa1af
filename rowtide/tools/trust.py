"""Which registry servers a person has allowed for a job: the file `tools.lock.yaml` beside `job.yaml`.

A job's own `command` and `url` are the job's word, and are trusted as its code is. What a registry lists is a
stranger's word: nothing of it is started, called or told a secret until a person has allowed it as it is.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from rowtide.errors import UserMistake
from rowtide.json_bytes import dump_json
from rowtide.tools.server_secrets import FILLED
from rowtide.tools.stubs import StrictModel, read_strictly

LOCK_FILE = "tools.lock.yaml"
HEAD = """# The tool servers that a registry lists for this job, and that a person has allowed. Review it as code.
# `rowtide plan JOB --trust` writes it. A server that is not listed here just so is not started.
"""


class AllowedServer(StrictModel):
    """One server of a registry, as it was found or allowed."""

    capability: str
    registry: str
    """Where it was found."""
    name: str
    version: str | None = None
    starts: str
    """The command that is run, or the URL that is called."""
    is_given: list[str] = Field(default_factory=list)
    """The variables of the environment whose values it is told."""
    digest: str
    """Of all that the registry says of it."""


class TrustLock(StrictModel):
    servers: dict[str, AllowedServer] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrustRequest:
    """A server that nobody has allowed, and the version that was allowed before, if any."""

    server: str
    found: AllowedServer
    before: AllowedServer | None


class NotTrusted(UserMistake):
    """A registry lists servers for a job that nobody has allowed in this form."""

    def __init__(self, asked: list[TrustRequest], job: str) -> None:
        self.asked = asked
        description = " ".join(map(trust_request_text, asked))
        what = f"{description} Nothing was started. Allow it, and record it in {LOCK_FILE}: rowtide plan {job} --trust"
        super().__init__(what, file="job.yaml", key=f"tools.{asked[0].server}.capability")


def found_server(
    capability: str, registry: str, name: str, version: str | None, place: Mapping[str, Any], entry: object
) -> AllowedServer:
    """A registry's server, to be shown to a person. `place` is where it is, `entry` the registry's whole entry."""
    command = [place.get("command"), *place.get("args", [])]
    starts = shlex.join(map(str, command)) if place.get("command") else str(place.get("url"))
    given = sorted(set(FILLED.findall(dump_json([*place.values()], default=str).decode())))
    digest = blake2b(dump_json(entry, default=str), digest_size=16).hexdigest()
    plain = {"capability": capability, "registry": registry, "name": name, "version": version, "starts": starts}
    shown = {key: visible_line(value) if value else value for key, value in plain.items()}
    return AllowedServer.model_validate({**shown, "is_given": given, "digest": digest})


def check_trusted(folder: Path, found: Mapping[str, AllowedServer]) -> None:
    """Raise NotTrusted for the servers that nobody has allowed in exactly this form."""
    lock = _lock(folder) if found else TrustLock()
    asked = [
        TrustRequest(server, each, lock.servers.get(server))
        for server, each in found.items()
        if lock.servers.get(server) != each
    ]
    if asked:
        raise NotTrusted(asked, folder.name)


def allow_servers(folder: Path, asked: list[TrustRequest]) -> Path:
    """Record that a person has allowed these servers. Returns the lock file. Raises UserMistake when it cannot be
    written.
    """
    file = folder / LOCK_FILE
    servers = _lock(folder).servers | {each.server: each.found for each in asked}
    description = {"servers": {name: each.model_dump() for name, each in sorted(servers.items())}}
    try:
        file.write_text(HEAD + yaml.safe_dump(description, sort_keys=False, width=200))
    except OSError as error:
        raise UserMistake(f"cannot be written: {error.strerror}", file=file) from None
    return file


def visible_line(text: str) -> str:
    """A stranger's text in one line, with control and invisible characters written out."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _lock(folder: Path) -> TrustLock:
    file = folder / LOCK_FILE
    return read_strictly(file, TrustLock) if file.is_file() else TrustLock()


def trust_request_text(asked: TrustRequest) -> str:
    """What would be started, where the entry comes from, and what was allowed before."""
    found, before = asked.found, asked.before
    version = f" {found.version}" if found.version else ""
    what = "would start" if "://" not in found.starts.split(" ")[0] else "would call"
    given = f", which is told the values of {', '.join(found.is_given)}" if found.is_given else ""
    description = (
        f"for {found.capability!r}, {found.registry} lists {found.name}{version}, and nobody has allowed that yet"
    )
    if before is not None:
        was = f"{before.name}{f' {before.version}' if before.version else ''}, `{before.starts}`"
        description = f"what {found.registry} lists for {found.capability!r} is not what was allowed ({was}) any more"
    return f"{description}: it {what} `{found.starts}`{given}{_but(found, before)}."


def _but(found: AllowedServer, before: AllowedServer | None) -> str:
    is_alike = before and (before.name, before.starts, before.is_given) == (found.name, found.starts, found.is_given)
    return "; what it starts is the same, but the entry says something else of it" if is_alike else ""
