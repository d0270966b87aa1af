"""How a read-only call is known again in whatever run: by the server as it is started, and what it is asked."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import orjson

from rowtide.job.job_spec import ToolServerSpec
from rowtide.job.versions import OF_A_SERVER, Parts

PERMISSIONS = frozenset({"tools", "allow", "ask", "read_only"})  # what may be called changes no output


def recording_of(asks: Parts, servers: Mapping[str, ToolServerSpec], tool: str, arguments: bytes) -> str:
    """The hash of a call: of its server, its tool (`server.tool`) and its arguments, as JSON with sorted keys.

    `asks` is of the job's version. A server that is started with another file, or with the same file of other content,
    is another.
    """
    spec = servers.get(tool.partition(".")[0])
    known: list[object] = [tool]
    if spec is not None:
        files = [Path(arg) for arg in spec.args] + [file for file in (spec.python, spec.stub) if file]
        known.append(spec.model_dump(mode="json", exclude={*OF_A_SERVER, *PERMISSIONS}))
        known.append([asks.get(str(file)) for file in files])
    content = orjson.dumps(known, option=orjson.OPT_SORT_KEYS) + b"\0" + arguments
    return hashlib.blake2b(content, digest_size=16).hexdigest()
