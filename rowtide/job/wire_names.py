"""Tool names as the API takes them, made from `server` and `tool` and taken apart again only here.

The API takes letters, digits, `_` and `-`; a server and its tools may be called anything. A name that can travel does
so as it is: `server__tool`. Another is written with `_` for what cannot, and ends in a hash of itself. The part before
the first `__` is the server's, so it holds no `__` of its own and ends in no `_`.
"""

import re
from collections.abc import Collection
from hashlib import blake2b

BETWEEN = "__"
WIRE_CHARS = 64  # the API's reference says 128, its guide to tool use 64: the shorter is right by both
SERVER_CHARS = 24
HASH_CHARS = 12
MARKED = re.compile(rf"_x[0-9a-f]{{{HASH_CHARS}}}$")  # what only a name that was hashed ends in
FORBIDDEN = re.compile(r"[^A-Za-z0-9_-]+")


def wire_name(server: str, tool: str) -> str:
    """Return what the API and the model call a server's tool. No two tools have one name, and none is too long."""
    head = wire_server_name(server)
    return head + BETWEEN + _part(tool, WIRE_CHARS - len(head) - len(BETWEEN))


def wire_server_name(server: str) -> str:
    """Return the part of a wire name before the first `__`, for a server's tools."""
    if BETWEEN in server or server.endswith("_"):
        return _hashed(server, SERVER_CHARS)
    return _part(server, SERVER_CHARS)


def server_of_wire_name(wire: str, servers: Collection[str]) -> str | None:
    """Return the server whose tool has this wire name; None where it is none of these servers."""
    head = wire.partition(BETWEEN)[0]
    return next((server for server in servers if wire_server_name(server) == head), None)


def wire_name_of_plain(name: str, servers: Collection[str]) -> str:
    """Return the wire name of `server.tool`; a name of no known server stays as it is."""
    server = server_of_plain_name(name, servers)
    return name if server is None else wire_name(server, name[len(server) + 1 :])


def plain_name_of_wire(wire: str, servers: Collection[str]) -> str:
    """Return the plain name `server.tool` of a wire name, or the wire name itself where it belongs to no server."""
    server = server_of_wire_name(wire, servers)
    tool = wire.partition(BETWEEN)[2]
    return f"{server}.{tool}" if server is not None and wire_name(server, tool) == wire else wire


def server_of_plain_name(name: str, servers: Collection[str]) -> str | None:
    """Return the server in `server.tool`: the longest that fits, for one may be called `a` and another `a.b`."""
    return max((each for each in servers if name.startswith(each + ".")), key=len, default=None)


def _part(name: str, room: int) -> str:
    """The name itself, where it is legal, fits into `room` and does not look like a hashed one; else a hashed one."""
    can_travel = 0 < len(name) <= room and not FORBIDDEN.search(name) and not MARKED.search(name)
    return name if can_travel else _hashed(name, room)


def _hashed(name: str, room: int) -> str:
    mark = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=HASH_CHARS // 2).hexdigest()
    readable = re.sub("_+", "_", FORBIDDEN.sub("_", name))[: room - HASH_CHARS - 2].strip("_")
    return f"{readable}_x{mark}" if readable else f"x_x{mark}"
