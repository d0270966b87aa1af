"""Two MCP servers in one file, written by hand: they cost next to nothing, so what is measured is their client."""

import json
import sys

ANNOTATIONS = {"readOnlyHint": True}


def tool(name: str, description: str, needs: str) -> dict:
    schema = {"type": "object", "properties": {needs: {"type": "string"}}, "required": [needs]}
    return {"name": name, "description": description, "inputSchema": schema, "annotations": ANNOTATIONS}


SERVERS = {
    "orders": {
        "find_order": (
            tool("find_order", "Find an order: who its customer is.", "order_number"),
            lambda said: {"customer_number": f"C{said['order_number']}"},
        ),
        "find_desk": (
            tool("find_desk", "Find the desk of a region.", "region_code"),
            lambda said: {"desk": f"desk {said['region_code']}"},
        ),
    },
    "people": {
        "find_customer": (
            tool("find_customer", "Find a customer: which region he is in.", "customer_number"),
            lambda said: {"region_code": f"R{said['customer_number'][-2:]}"},
        ),
    },
}


def main() -> None:
    tools = SERVERS[sys.argv[1]]
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" in asked:
            sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **answer(tools, asked)}) + "\n")
            sys.stdout.flush()


def answer(tools: dict, asked: dict) -> dict:
    match asked["method"]:
        case "initialize":
            version = asked["params"]["protocolVersion"]
            info = {"name": sys.argv[1], "version": "1"}
            return {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}}
        case "tools/list":
            return {"result": {"tools": [listed for listed, _ in tools.values()]}}
        case "tools/call":
            said = tools[asked["params"]["name"]][1](asked["params"]["arguments"])
            words = [{"type": "text", "text": json.dumps(said)}]
            return {"result": {"content": words, "structuredContent": said, "isError": False}}
        case other:
            return {"error": {"code": -32601, "message": f"{other} is not known here"}}


if __name__ == "__main__":
    main()
