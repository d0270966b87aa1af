"""An MCP server written by hand, that breaks the protocol by the rules it is started with.

    broken.py TALLY [crash=50] [hang=70] [garble=90] [freeze=9] [births=3]

TALLY is a file that counts its calls, one byte each, through all its lives. `births` is how often it starts at all.
"""

import json
import os
import sys
import threading
from pathlib import Path

RULES = dict(rule.split("=") for rule in sys.argv[2:])
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
ANSWER = {"type": "object", "properties": {"twice": {"type": "integer"}}, "required": ["twice"]}
READS = {"readOnlyHint": True}
TOOLS = [
    {"name": "double", "inputSchema": SCHEMA, "outputSchema": ANSWER, "annotations": READS},
    {"name": "lie", "inputSchema": {"type": "object"}, "outputSchema": ANSWER, "annotations": READS},
    {"name": "shapeless", "inputSchema": {"type": "object"}, "annotations": READS},
    {"name": "endless", "inputSchema": {"type": "object"}, "annotations": READS},
    {"name": "odd.name/of it", "inputSchema": {"type": "object"}, "annotations": READS},
]
GARBAGE = [
    lambda call: b"Traceback (most recent call last):",
    lambda call: b'{"jsonrpc": "2.0", "id": %d, "result": "\xff\xfe"}' % call,
    lambda call: b'{"jsonrpc": "2.0", "id": %d, "result": {"content": 7}}' % call,
    lambda call: b'{"id": %d}' % call,
    lambda call: b"[]",
]


def main() -> None:
    if counted("births") > int(RULES.get("births", 1_000_000)):
        sys.exit("it was born too often")
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" in asked:
            answer(asked["id"], asked["method"], asked.get("params") or {})


def answer(call: int, method: str, params: dict) -> None:
    match method:
        case "initialize":
            info = {"name": "broken", "version": "1"}
            told = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info}
            say(call, result=told)
        case "tools/list":  # one tool a page
            at = int(params.get("cursor", 0))
            more = {"nextCursor": str(at + 1)} if at + 1 < len(TOOLS) else {}
            say(call, result={"tools": TOOLS[at : at + 1], **more})
        case "tools/call" if params["name"] == "double":
            double(call, params["arguments"]["n"])
        case "tools/call" if params["name"] == "lie":
            say(call, result={"content": [], "structuredContent": {"twice": "many"}})
        case "tools/call" if params["name"] == "shapeless":
            say(call, result={"content": "text"})
        case "tools/call" if params["name"] == "endless":
            write(b"x" * 40_000_000)
        case "tools/call":
            say(call, result={"content": [{"type": "text", "text": "it is \0 odd"}]})
        case _:
            say(call, error={"code": -32601, "message": "not known here"})


def double(call: int, n: int) -> None:
    number = counted("calls")

    def is_due(rule: str) -> bool:
        return rule in RULES and number % int(RULES[rule]) == 0

    if is_due("crash"):
        os._exit(3)
    if is_due("freeze"):
        threading.Event().wait()
    if is_due("garble"):
        write(GARBAGE[number // int(RULES["garble"]) % len(GARBAGE)](call))
    elif not is_due("hang"):
        content = [{"type": "text", "text": str(2 * n)}]
        say(call, result={"content": content, "structuredContent": {"twice": 2 * n}})


def counted(what: str) -> int:
    """How often this has happened, this time included."""
    with Path(f"{sys.argv[1]}.{what}").open("ab", buffering=0) as file:
        file.write(b".")
        return file.tell()


def say(call: int, **said: object) -> None:
    write(json.dumps({"jsonrpc": "2.0", "id": call, **said}).encode())


def write(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
