"""The process in which a job's own functions are tools: `python function_host.py tools.py`.

It is a program of its own, so that a crash, a hang or a print is the functions' own; it imports nothing of Rowtide.
Its first line says which tools there are, or what is wrong with the file; then each line that it reads is a call, and
each that it writes is what a call returned. A function's schema, and what becomes of its result, are the MCP library's.
"""

import asyncio
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NoReturn

from anyio import to_thread
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult

KEY = "idempotency_key"  # a parameter of this name gets the call's key, and is hidden from the model
LINE_BYTES = 4_000_000  # of a result; a longer one is an error
CALL_BYTES = 64_000_000
MOST_THREADS = 1000  # a function that hangs keeps its thread
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Mistake(Exception):
    """What somebody has to mend in the file, and on which line."""

    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what)
        self.what, self.line = what, line


def main(file: Path) -> None:
    """Serve the functions of a file until stdin closes. Ends at once where the file has a mistake."""
    calls, out = _own_streams()
    try:
        tools = {tool.name: tool for tool in tools_of(load(file))}
    except Mistake as mistake:
        _write(out, {"mistake": mistake.what, "line": mistake.line})
        return
    listed = [
        {"name": each.name, "description": each.description, "input_schema": each.parameters} for each in tools.values()
    ]
    _write(out, {"tools": listed})
    asyncio.run(_serve(tools, calls, out))


def load(file: Path) -> ModuleType:
    """Run the file as a module. Raises Mistake with the line."""
    module = ModuleType(file.stem)
    module.__file__ = str(file)
    sys.modules[file.stem] = module
    sys.path.insert(0, str(file.parent))
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), vars(module))
    except SyntaxError as error:
        raise Mistake(error.msg, error.lineno) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 # a job's code may raise anything
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        raise Mistake(f"{type(error).__name__}: {error}", lines[-1] if lines else None) from None
    return module


def tools_of(module: ModuleType) -> list[Tool]:
    """Its public functions as tools. Raises Mistake for one that a model could not call."""
    functions = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and callable(value)
        and getattr(value, "__module__", None) == module.__name__
        and inspect.isfunction(inspect.unwrap(value))
    }
    if not functions:
        raise Mistake("no function here: each public one, typed and with a docstring, is a tool")
    return [_tool(name, function) for name, function in functions.items()]


def _tool(name: str, function: Callable[..., Any]) -> Tool:
    plain = inspect.unwrap(function)
    line = plain.__code__.co_firstlineno
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise Mistake(f"{name} yields; let it return a list", line)
    if not (function.__doc__ or "").strip():
        raise Mistake(f"{name} has no docstring; say what it returns and when to call it: the model reads that", line)
    parameters = inspect.signature(function).parameters
    for each in parameters.values():
        if each.kind in VARIADIC:
            raise Mistake(f"{name} takes *{each.name}; name each parameter: the model has to know them", line)
        if each.annotation is inspect.Parameter.empty and each.name != KEY:
            raise Mistake(f"{name}: the parameter {each.name} has no type; write it, as in {each.name}: str", line)
    try:
        return Tool.from_function(
            function,
            name=name,
            description=inspect.cleandoc(function.__doc__ or ""),
            context_kwarg=KEY if KEY in parameters else None,
        )
    except Exception as error:  # noqa: BLE001 # of the library and of pydantic, for a type that is none
        raise Mistake(f"{name}: {' '.join(str(error).split())[:500]}", line) from None


async def _serve(tools: Mapping[str, Tool], calls: BinaryIO, out: BinaryIO) -> None:
    to_thread.current_default_thread_limiter().total_tokens = MOST_THREADS
    reader = asyncio.StreamReader(CALL_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), calls)
    under_way: dict[int, asyncio.Task[None]] = {}
    while line := await reader.readline():
        call = json.loads(line)
        if (given_up := call.get("cancel")) is not None:
            if task := under_way.get(given_up):
                task.cancel()
            continue
        number = call["id"]
        under_way[number] = asyncio.create_task(_answer(tools[call["tool"]], call, out))
        under_way[number].add_done_callback(lambda _, number=number: under_way.pop(number, None))


async def _answer(tool: Tool, call: Mapping[str, Any], out: BinaryIO) -> None:
    context: Any = call.get("key")
    try:
        result = await tool.run(call["arguments"], context, convert_result=True)
        if not isinstance(result, CallToolResult):
            raise ToolError(f"{tool.name} returned something that is no result")
        found = {"blocks": [*map(_text, result.content)], "structured": result.structured_content}
        found["is_error"] = bool(result.is_error)
    except UnexpectedToolError as error:  # what the function raised: its author wrote those words for whoever calls it
        cause = error.__cause__
        found = {"blocks": [f"{error}: {type(cause).__name__}: {cause}"], "is_error": True}
    except SystemExit as error:  # it ends the call, and not the process under all others
        found = {"blocks": [f"Error executing tool {tool.name}: it called sys.exit({error.code!r})"], "is_error": True}
    except Exception as error:  # noqa: BLE001 # a row's call goes wrong, not the tool
        found = {"blocks": [str(error)], "is_error": True}
    _write(out, {"id": call["id"], **found})


def _text(block: Any) -> str:
    return block.text if block.type == "text" else f"[{block.type}, left out: rows read text only]"


def _write(out: BinaryIO, value: Mapping[str, Any]) -> None:
    line = json.dumps(value).encode()
    if len(line) > LINE_BYTES:
        words = f"It returned more than {LINE_BYTES:,} bytes, which is more than can be taken."
        line = json.dumps({"id": value.get("id"), "blocks": [words], "is_error": True}).encode()
    out.write(line + b"\n")
    out.flush()


def _own_streams() -> tuple[BinaryIO, BinaryIO]:
    """Stdin and stdout for calls alone: what a function prints goes to stderr, and what it reads is empty."""
    calls, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return calls, out


def _usage() -> NoReturn:
    sys.exit("usage: python function_host.py FILE")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve()) if len(sys.argv) == 2 else _usage()
