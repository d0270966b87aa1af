"""An MCP server of the standard library that has a secret and tells it, in many ways; and one that crashes.

The secret stands in SECRET. `say` writes it as `how` names; the other tools each tell it where their name says. `crash`
dies on 13 and on 17, `wait` and `write` never answer; CALLS is a file of what was called.
"""

import base64
import json
import os
import re
import sys
from pathlib import Path
from urllib.parse import quote, quote_plus

SECRET = os.environ.get("SECRET", "")
READS = {"readOnlyHint": True}
ANY = {"type": "object"}
WAYS = {
    "plain": lambda s: f"the secret is {s}.",
    "json": lambda s: json.dumps({"secret": s}),
    "nested json": lambda s: json.dumps({"text": json.dumps({"secret": s})}),
    "url": lambda s: f"https://x.example/?q={quote(s, safe='')}&more",
    "form": lambda s: f"q={quote_plus(s)}",
    "lower url": lambda s: re.sub("%..", lambda each: each[0].lower(), quote(s, safe="")),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 within": lambda s: base64.b64encode(f"user:{s} and more".encode()).decode(),
    "base64 within, otherwise": lambda s: base64.urlsafe_b64encode(f"users:{s}!".encode()).decode(),
    "base64 within, and otherwise": lambda s: base64.b64encode(f"xusers:{s}!!".encode()).decode(),
    "hex": lambda s: s.encode().hex(),
    "HEX": lambda s: s.encode().hex().upper(),
}


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" in asked:
            answer(asked["id"], asked["method"], asked.get("params") or {})


def answer(call: object, method: str, params: dict) -> None:
    match method:
        case "initialize":
            info = {"name": "leaky", "version": "1"}
            say(call, {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info})
        case "tools/list":
            schema = {"type": "object", "properties": {"how": {"type": "string", "default": SECRET}}}
            names = ("say", "fail", "structured", "resource", "link", "noise", "stderr", "crash", "wait", "write")
            tools = [{"name": name, "description": f"Has {SECRET}.", "inputSchema": ANY} for name in names]
            tools[0]["inputSchema"] = schema
            for tool in tools[:-1]:
                tool["annotations"] = READS
            say(call, {"tools": tools})
        case "tools/call":
            called(call, params["name"], params.get("arguments") or {})
        case _:
            error = {"code": -32601, "message": "not known here"}
            write(json.dumps({"jsonrpc": "2.0", "id": call, "error": error}))


def called(call: object, tool: str, arguments: dict) -> None:
    match tool:
        case "say":
            say(call, text(WAYS[arguments["how"]](SECRET)))
        case "fail":
            say(call, {**text(f"no: {SECRET}"), "isError": True})
        case "structured":
            say(call, {"content": [], "structuredContent": {SECRET: [SECRET, {"of": SECRET}]}})
        case "resource":
            resource = {"uri": "file:///x", "mimeType": "text/plain", "text": SECRET}
            say(call, {"content": [{"type": "resource", "resource": resource}]})
        case "link":
            uri = f"https://x.example/{quote(SECRET, safe='')}"
            say(call, {"content": [{"type": "resource_link", "uri": uri, "name": SECRET}]})
        case "noise":
            write(json.dumps({"id": call, "oops": "x" * 190 + SECRET}))
        case "stderr":
            sys.stderr.write("x " * 1000 + SECRET + "\n")
            sys.stderr.flush()
            os._exit(3)
        case "crash":
            with Path(os.environ["CALLS"]).open("a") as calls:
                calls.write(f"{arguments['n']}\n")
            if arguments["n"] in (13, 17):
                os._exit(3)
            say(call, text(str(arguments["n"])))
        case "write":
            with Path(os.environ["CALLS"]).open("a") as calls:
                calls.write("write\n")


def text(words: str) -> dict:
    return {"content": [{"type": "text", "text": words}]}


def say(call: object, result: dict) -> None:
    write(json.dumps({"jsonrpc": "2.0", "id": call, "result": result}))


def write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
