"""Which of the servers that a registry has listed a person has allowed: the file `tools.lock.yaml` beside `job.yaml`.

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
from rowtide.json_bytes import compact_json
from rowtide.tools.secret_words import FILLED
from rowtide.tools.stubs import Written, read_strictly

LOCK_FILE = "tools.lock.yaml"
HEAD = """# The tool servers that a registry lists for this job, and that a person has allowed. Review it as code.
# `rowtide plan JOB --trust` writes it. A server that is not listed here just so is not started.
"""


class Allowed(Written):
    """One server as it was found, and as it was allowed."""

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


class Lock(Written):
    servers: dict[str, Allowed] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A server that nobody has allowed, and what had been allowed in its place."""

    server: str
    found: Allowed
    before: Allowed | None


class NotTrusted(UserMistake):
    """A registry lists servers for a job that no person has allowed as they are."""

    def __init__(self, asked: list[Asked], job: str) -> None:
        self.asked = asked
        told = " ".join(map(words_of, asked))
        what = f"{told} Nothing was started. To allow it, and write it down in {LOCK_FILE}: rowtide plan {job} --trust"
        super().__init__(what, file="job.yaml", key=f"tools.{asked[0].server}.capability")


def found_as(
    capability: str, registry: str, name: str, version: str | None, place: Mapping[str, Any], entry: object
) -> Allowed:
    """A server of a registry, as a person is to see it. `place` is where it is, and `entry` all that was said of it."""
    command = [place.get("command"), *place.get("args", [])]
    starts = shlex.join(map(str, command)) if place.get("command") else str(place.get("url"))
    given = sorted(set(FILLED.findall(compact_json([*place.values()], default=str).decode())))
    digest = blake2b(compact_json(entry, default=str), digest_size=16).hexdigest()
    plain = {"capability": capability, "registry": registry, "name": name, "version": version, "starts": starts}
    shown = {key: visible(value) if value else value for key, value in plain.items()}
    return Allowed.model_validate({**shown, "is_given": given, "digest": digest})


def check_trusted(folder: Path, found: Mapping[str, Allowed]) -> None:
    """Raise NotTrusted for the servers that nobody has allowed just so."""
    lock = _lock(folder) if found else Lock()
    asked = [
        Asked(server, each, lock.servers.get(server))
        for server, each in found.items()
        if lock.servers.get(server) != each
    ]
    if asked:
        raise NotTrusted(asked, folder.name)


def allow(folder: Path, asked: list[Asked]) -> Path:
    """Write down that a person has allowed these servers. Returns the file. Raises UserMistake when it cannot be."""
    file = folder / LOCK_FILE
    servers = _lock(folder).servers | {each.server: each.found for each in asked}
    told = {"servers": {name: each.model_dump() for name, each in sorted(servers.items())}}
    try:
        file.write_text(HEAD + yaml.safe_dump(told, sort_keys=False, width=200))
    except OSError as error:
        raise UserMistake(f"cannot be written: {error.strerror}", file=file) from None
    return file


def visible(text: str) -> str:
    """A stranger's text in one line, with nothing in it that a terminal obeys or that is not seen."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _lock(folder: Path) -> Lock:
    file = folder / LOCK_FILE
    return read_strictly(file, Lock) if file.is_file() else Lock()


def words_of(asked: Asked) -> str:
    """What would be started, from where, and what had been allowed."""
    found, before = asked.found, asked.before
    version = f" {found.version}" if found.version else ""
    what = "would start" if "://" not in found.starts.split(" ")[0] else "would call"
    given = f", which is told the values of {', '.join(found.is_given)}" if found.is_given else ""
    told = f"for {found.capability!r}, {found.registry} lists {found.name}{version}, and nobody has allowed that yet"
    if before is not None:
        was = f"{before.name}{f' {before.version}' if before.version else ''}, `{before.starts}`"
        told = f"what {found.registry} lists for {found.capability!r} is not what was allowed ({was}) any more"
    return f"{told}: it {what} `{found.starts}`{given}{_but(found, before)}."


def _but(found: Allowed, before: Allowed | None) -> str:
    is_alike = before and (before.name, before.starts, before.is_given) == (found.name, found.starts, found.is_given)
    return "; what it starts is the same, but the entry says something else of it" if is_alike else ""
