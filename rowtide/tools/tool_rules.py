"""The rules for tools: names, permissions, arguments, and the fence around output.

A server's word about its own tools is a hint from a stranger: it can take a permission away, never give one that the
job withholds.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any, TypeVar

import jsonschema_rs

from rowtide.errors import UserMistake, nearest_name
from rowtide.job.job_spec import Remember, ToolServerSpec
from rowtide.job.wire_names import wire_name

T = TypeVar("T")

DESCRIPTION_CHARS = 4000
MOST_TOOLS = 500
NAMED = 50  # so many tools of a server are named in a message
SHOWN_MISFITS = 3  # so many misfits are told at once
UNPLAIN = re.compile(r"[^\w.-]")  # what the name of a tool may not bring into a mark
# Keywords that let properties stand elsewhere than in `properties`: closing such a schema would refuse good arguments.
OPEN_KEYWORDS = {"allOf", "anyOf", "oneOf", "$ref", "patternProperties", "if"}


@dataclass(frozen=True, slots=True)
class Listed:
    """A tool as its server lists it."""

    name: str
    description: str
    input_schema: dict[str, Any]
    says_read_only: bool


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that a row may call."""

    name: str
    wire_name: str
    description: str
    input_schema: dict[str, Any]
    may_write: bool
    asks: bool
    remember_seconds: float = 0.0
    """How long what it said is kept for whoever asks the same; for ever is infinite."""
    error_if: str | None = None

    def says_error(self, text: str) -> bool:
        """Whether the job's own pattern (`error_if`) finds an error in the tool's output."""
        return self.error_if is not None and re.search(self.error_if, text) is not None


@dataclass(frozen=True, slots=True)
class Offer:
    """One of a server's tools, and whether this job offers it to its rows."""

    listed: Listed
    tool: Tool
    is_allowed: bool
    misfits: Callable[[Mapping[str, object]], list[str]]


def offered_tools(server: str, spec: ToolServerSpec, listed: Mapping[str, Listed]) -> dict[str, Offer]:
    """The tools a job names, or all of a server's, by wire name and in a fixed order. Raises UserMistake."""
    _check_names(server, spec, listed)
    chosen = [_offer(server, spec, listed[name]) for name in sorted(listed) if spec.tools is None or name in spec.tools]
    if chosen and not any(offer.is_allowed for offer in chosen):
        raise UserMistake(
            "none of its tools says that it only reads, and the job allows none that changes something; "
            f"list what a row may call under `read_only`, `allow` or `ask`: {_some(listed)}",
            file="job.yaml",
            key=f"tools.{server}",
        )
    if (offered := sum(offer.is_allowed for offer in chosen)) > MOST_TOOLS:
        raise UserMistake(
            f"it offers {offered:,} tools, and every row's prompt would hold them all; name those a row may call",
            file="job.yaml",
            key=f"tools.{server}.tools",
        )
    return {offer.tool.wire_name: offer for offer in chosen}


def check_distinct_names(tools: Sequence[Tool]) -> None:
    """Raise UserMistake if two tools share a name, as `server.tool` or on the wire."""
    for names in ([tool.name for tool in tools], [tool.wire_name for tool in tools]):
        for name, times in Counter(names).items():
            if times > 1:
                raise UserMistake(
                    f"{times} tools are called {name!r}; name a server otherwise", file="job.yaml", key="tools"
                )


def fence_output(tool: str, text: str) -> str:
    """A tool's output between marks that cannot be forged from inside: each mark holds a hash of the output."""
    mark = blake2b(text.encode(), digest_size=8, key=b"rowtide").hexdigest()
    source = UNPLAIN.sub("_", tool)
    return f'<tool_output from="{source}" mark="{mark}">\n{text}\n</tool_output mark="{mark}">'


def cut_output(text: str, limit: int) -> str:
    """The text, cut at `limit` characters, as a model may read it and any database may store it."""
    text = text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return text if len(text) <= limit else f"{text[:limit]}\n[cut: {len(text):,} characters, the first {limit:,} shown]"


def _check_names(server: str, spec: ToolServerSpec, listed: Mapping[str, Listed]) -> None:
    for key, names in (
        ("tools", spec.tools or []),
        ("allow", spec.allow),
        ("ask", spec.ask),
        ("read_only", spec.read_only),
        ("remember", spec.remember if isinstance(spec.remember, dict) else []),
        ("error_if", spec.error_if if isinstance(spec.error_if, dict) else []),
    ):
        for name in names:
            if name not in listed:
                raise UserMistake(
                    f"the server has no tool {name!r}; it has {_some(listed)}",
                    file="job.yaml",
                    key=f"tools.{server}.{key}",
                    meant=nearest_name(name, listed),
                )


def _some(names: Iterable[str]) -> str:
    named = sorted(names)
    more = f" and {len(named) - NAMED:,} more" if len(named) > NAMED else ""
    return ", ".join(named[:NAMED]) + more


def _offer(server: str, spec: ToolServerSpec, listed: Listed) -> Offer:
    asks = listed.name in spec.ask
    permitted = asks or listed.name in spec.allow
    reads = not permitted and (listed.name in spec.read_only or listed.says_read_only)
    schema = _closed(listed.input_schema)
    tool = Tool(
        name=f"{server}.{listed.name}",
        wire_name=wire_name(server, listed.name),
        description=listed.description[:DESCRIPTION_CHARS],
        input_schema=schema,
        may_write=not reads,
        asks=asks,
        remember_seconds=_seconds(_of_tool(spec.remember, listed.name) or False) if reads else 0.0,
        error_if=_of_tool(spec.error_if, listed.name),
    )
    return Offer(listed, tool, permitted or reads, _misfits_of(schema))


def _of_tool(setting: T | dict[str, T] | None, tool: str) -> T | None:
    """The value of a setting for one tool, where the setting is one value for all tools or a value for each."""
    return setting.get(tool) if isinstance(setting, dict) else setting


def _seconds(remember: Remember) -> float:
    return remember if not isinstance(remember, bool) else math.inf if remember else 0.0


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with undeclared arguments forbidden, where a schema can express that."""
    whole = {"type": "object", **schema}
    is_open = "properties" not in schema or OPEN_KEYWORDS & schema.keys()
    return whole if is_open else {"additionalProperties": False, **whole}


def _misfits_of(schema: dict[str, Any]) -> Callable[[Mapping[str, object]], list[str]]:
    """A function that lists what is wrong with a call's arguments. Compiled once, because every call uses it."""
    try:
        validator = jsonschema_rs.validator_for(schema, offline=True)  # what a `$ref` names elsewhere is never fetched
    except ValueError:
        return lambda _: []  # a server whose schema is no schema judges its arguments itself

    def misfits(arguments: Mapping[str, object]) -> list[str]:
        return [
            f"{'.'.join(map(str, each.instance_path)) or 'arguments'}: {each.message[:300]}"
            for each in islice(validator.iter_errors(arguments), SHOWN_MISFITS)
        ]

    return misfits
