"""An MCP server written by hand: it imports next to nothing, so it is there in thirty milliseconds."""

import json
import sys

DESKS = {"A-1": "north desk", "A-2": "south desk", "A-3": "closed desk"}

TOOL = {
    "name": "find_order",
    "description": "Find an order and the desk that has it.",
    "inputSchema": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
    "annotations": {"readOnlyHint": True},
}


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" in asked:
            sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **answer(asked)}) + "\n")
            sys.stdout.flush()


def answer(asked: dict) -> dict:
    match asked["method"]:
        case "initialize":
            version = asked["params"]["protocolVersion"]
            server = {"name": "orders", "version": "1"}
            return {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server}}
        case "tools/list":
            return {"result": {"tools": [TOOL]}}
        case "tools/call":
            return {"result": found(asked["params"]["arguments"]["order_id"])}
        case other:
            return {"error": {"code": -32601, "message": f"{other} is not known here"}}


def found(order_id: str) -> dict:
    if order_id not in DESKS:
        return {"content": [{"type": "text", "text": f"There is no order {order_id}."}], "isError": True}
    said = {"order": order_id, "desk": DESKS[order_id]}
    return {"content": [{"type": "text", "text": json.dumps(said)}], "structuredContent": said, "isError": False}


if __name__ == "__main__":
    main()
