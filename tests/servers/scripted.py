"""An MCP server that says what is written down: scripted.py SCRIPT, a JSON file.

`pages` are the results of tools/list, the one asked for by its cursor (a page's number); `answers` are the answers of
tools, each a line in which ID stands for the call's id, with bytes as latin-1 has them. A list is said one after
another, its last for ever. Every call is a line in SCRIPT.calls.
"""

import json
import sys
from collections import Counter
from pathlib import Path

SCRIPT = Path(sys.argv[1])
asked: Counter[str] = Counter()


def main() -> None:
    script = json.loads(SCRIPT.read_text())
    for line in sys.stdin:
        call = json.loads(line)
        params = call.get("params") or {}
        match call["method"]:
            case "initialize":
                info = {"name": "scripted", "version": "1"}
                told = {
                    "protocolVersion": params["protocolVersion"],
                    "capabilities": {"tools": {}},
                    "serverInfo": info,
                }
                say(call["id"], {"result": told})
            case "tools/list":
                say(call["id"], {"result": script["pages"][int(params.get("cursor") or 0)]})
            case "tools/call":
                with SCRIPT.with_suffix(".calls").open("a") as calls:
                    calls.write(line)
                answer = script["answers"][params["name"]]
                if isinstance(answer, list):
                    asked[params["name"]] += 1
                    answer = answer[min(asked[params["name"]], len(answer)) - 1]
                write(answer.replace("ID", json.dumps(call["id"])).encode("latin-1"))
            case _ if "id" in call:
                say(call["id"], {"error": {"code": -32601, "message": "not known here"}})


def say(call: object, said: dict) -> None:
    write(json.dumps({"jsonrpc": "2.0", "id": call, **said}).encode())


def write(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
