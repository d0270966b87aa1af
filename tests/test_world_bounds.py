"""Memory at every door: what comes in is bounded before it is read, whatever it says of itself.

Each door is tried in a process of its own, which says by how much its peak grew over what its imports need.
"""

import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy
from listening import Handler, listening
from outside import ROOT

MOST_MB = 250  # generous: the honest work of a page of rows is in it
SERVERS = Path(__file__).parent / "servers"

SOURCE = """
from rowtide.intake.sources import read_pages, source_shape
from rowtide.job.job_spec import SourceSpec
spec = SourceSpec.model_validate({spec!r})
def door():
    print(source_shape(spec, Path({folder!r}), {{}}).columns)
    rows = bad = 0
    for page in read_pages(spec, Path({folder!r}), 5000, {{}}):
        rows += len(page)
        for each in page:
            if hasattr(each, "reason"):
                bad += 1
                print(each.reason, each.detail)
    print(rows, "rows", bad, "bad")
"""
TOOL = """
import asyncio
from rowtide.tools.tools import ToolPool
from rowtide.job.job_spec import ToolServerSpec
async def call():
    spec = ToolServerSpec.model_validate({spec!r})
    async with ToolPool({{"it": spec}}, Path({folder!r}), dict(os.environ), 20000) as tools:
        print((await tools.call("it__say", {{}})).text[-300:])
def door():
    asyncio.run(call())
"""
API = """
import asyncio
from rowtide.api.claude import Claude
async def ask():
    async with Claude("key", {url!r}, api="it") as claude:
        print(str(await claude.{call})[:300])
def door():
    asyncio.run(ask())
"""
REGISTRY = """
import asyncio
from rowtide.job.job_spec import ToolServerSpec
from rowtide.tools.server_lookup import resolve_servers
def door():
    spec = ToolServerSpec(capability="notes")
    asyncio.run(resolve_servers({{"it": spec}}, registry={url!r}, folder=Path({folder!r}), environment={{}}))
"""
AROUND = """
import os, resource, sys
from pathlib import Path
from rowtide.errors import RowtideError
{}
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    door()
except RowtideError as error:
    print(type(error).__name__, error)
print("grew by", (peak() - before) // 1024, "MB")
"""


def through(door: str, *, most: int = MOST_MB, **given: Any) -> str:
    """What a door says, once its process has grown by no more than it may."""
    code = AROUND.format(door.format(**given))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    grown = re.search(r"grew by (\d+) MB", done.stdout)
    assert grown
    assert int(grown[1]) <= most, done.stdout[-1000:]
    return done.stdout


def read(folder: Path, name: str) -> str:
    return through(SOURCE, spec={"path": name}, folder=str(folder))


# Files

X = "x" * 1_000_000
TEXTS: dict[str, tuple[list[tuple[str, int]], str]] = {
    "a cell without end": ([("id,m\n1,a\n2,", 1), (X, 60), ("\n3,c\n", 1)], "more than 8,000,000 characters"),
    "a quoted cell": ([('id,m\n1,a\n2,"', 1), ("x" * 99_999 + "\n", 300), ('"\n3,c\n', 1)], "more than 8,000,000 ch"),
    "cells without end": (
        [("id,m\n1,a\n2", 1), ("," * 1_000_000, 12), ("\n3,c\n", 1)],
        "more than 8,000,000 characters",
    ),
    "many cells": ([("id,m\n1,a\n2", 1), ("," * 1_000_000, 5), ("\n3,c\n", 1)], "more than 1,000,000 cells"),
    "quotes": ([('id,m\n1,a\n2,"', 1), ('""' * 500_000, 12), ('"\n3,c\n', 1)], "more than 8,000,000 characters"),
}
LINES: dict[str, tuple[list[tuple[str, int]], str]] = {
    "a line without end": (
        [('{"id":1}\n{"id":2,"m":"', 1), (X, 60), ('"}\n{"id":3}\n', 1)],
        "more than 8,000,000 bytes",
    ),
    "many values": ([('{"id":1}\n', 1), ('{"m":[' + "[]," * 2_000_000 + "0]}\n", 9)], "more than 1,000,000 values"),
    "as many as may be": ([('{"m":[' + "[]," * 450_000 + "0]}\n", 30)], "30 rows 0 bad"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_record_of_a_csv_file_is_bounded_before_it_is_read(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "rows.csv", TEXTS[kind][0])
    said = read(tmp_path, "rows.csv")
    assert TEXTS[kind][1] in said
    assert "3 rows 1 bad" in said


@pytest.mark.parametrize("kind", LINES)
def test_a_line_of_json_is_bounded_before_it_is_read(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "rows.jsonl", LINES[kind][0])
    assert LINES[kind][1] in read(tmp_path, "rows.jsonl")


def write(file: Path, pieces: list[tuple[str, int]]) -> None:
    with file.open("w") as out:
        for piece, times in pieces:
            for _ in range(times):
                out.write(piece)


def parquet_files() -> dict[str, tuple[Any, dict[str, Any], str]]:
    """Tables that are small in a file and large in memory, how they are written, and what is said of them."""
    long = "x" * 5_000_000
    zeros = pa.ListArray.from_arrays(pa.array([0, 1, 20_000_000], pa.int32()), pa.array(np.zeros(20_000_000, np.int8)))
    packed = pa.array([1, 2]), {"compression": "zstd", "dictionary_pagesize_limit": 1 << 30}
    many, once = packed[1], {"compression": "zstd", "use_dictionary": False}
    return {
        "one text in each row": (pa.table({"id": range(256), "m": [long] * 256}), many, "256 rows 0 bad"),
        "one text in lists": (pa.table({"id": range(20), "m": [[long[:1_000_000]] * 50] * 20}), many, "20 rows 20 bad"),
        "one text in maps": (
            pa.table(
                {"m": pa.array([[(n, long[:1_000_000]) for n in range(3)]] * 60, pa.map_(pa.int32(), pa.string()))}
            ),
            many,
            "60 rows",
        ),
        "one long text": (
            pa.table({"id": [1, 2], "m": ["a", "x" * 200_000_000]}),
            once,
            "unpack to 200,000",
        ),
        "a list without end": (pa.table({"id": packed[0], "m": zeros}), many, "unpack to 160,000,000"),
        "bytes of one length": (
            pa.table({"m": pa.array([b"x" * 5_000_000] * 40, pa.binary(5_000_000))}),
            many,
            "unpack to 200,000,000",
        ),
    }


def test_a_parquet_file_is_weighed_by_what_it_says_of_itself_before_it_is_read(tmp_path: Path) -> None:
    for kind, (table, how, words) in parquet_files().items():
        pq.write_table(table, tmp_path / "rows.parquet", **how)
        assert (tmp_path / "rows.parquet").stat().st_size < 60_000, kind
        said = read(tmp_path, "rows.parquet")
        assert words in said, f"{kind}: {said}"


def test_what_is_long_and_as_long_in_the_file_is_read_whole(tmp_path: Path) -> None:
    texts = np.random.default_rng(7).bytes(40_000_000).hex()
    table = pa.table({"id": range(80), "m": [texts[n * 900_000 : (n + 1) * 900_000] for n in range(80)]})
    pq.write_table(table, tmp_path / "rows.parquet")
    assert "80 rows 0 bad" in read(tmp_path, "rows.parquet")


# Databases


def test_a_cell_of_sqlite_is_bounded(tmp_path: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'rows.db'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("create table t (id integer, m blob)")
        connection.exec_driver_sql("insert into t values (1, 'a')")
        for size in [30_000_000] * 12:
            connection.exec_driver_sql(f"insert into t values (2, zeroblob({size}))")
        connection.exec_driver_sql("insert into t values (3, 'c')")
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    said = through(SOURCE, spec={"url": url, "query": "select * from t"}, folder=str(tmp_path))
    assert "14 rows 12 bad" in said
    with engine.begin() as connection:
        connection.exec_driver_sql("insert into t values (4, zeroblob(100000000))")
    engine.dispose()
    said = through(SOURCE, spec={"url": url, "query": "select * from t where id = 4"}, folder=str(tmp_path))
    assert "UserMistake" in said
    assert "string or blob too big" in said


def test_a_cell_of_postgresql_is_left_out_before_it_is_sent(postgres_url: str, tmp_path: Path) -> None:
    engine = sqlalchemy.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql('create table t (id int, "m:x" text, b bytea, j json)')
        connection.exec_driver_sql("insert into t values (1, 'a', 'b', '{}')")
        for cells in ("repeat('x', 100000000), 'b', '{}'", "'a', convert_to(repeat('x', 100000000), 'UTF8'), '{}'"):
            connection.exec_driver_sql(f"insert into t select 2, {cells} from generate_series(1, 3)")
        long = "('{\"a\":\"' || repeat('x', 50000000) || '\"}')::json"
        connection.exec_driver_sql(f"insert into t values (3, 'a', 'b', {long})")
        connection.exec_driver_sql(
            "insert into t select 4, repeat('y', 900000), 'b', '[]' from generate_series(1, 100)"
        )
    engine.dispose()
    for query, words in {
        "select * from t order by id -- as they are": "108 rows 7 bad",
        'with w as (select * from t) select id, "m:x" from w order by id desc;': "108 rows 3 bad",
        "select id, '::x' as odd, count(*) as n from t group by id order by id": "4 rows 0 bad",
    }.items():
        said = through(SOURCE, spec={"url": postgres_url, "query": query}, folder=str(tmp_path))
        assert words in said, said[-2000:]
        assert "1,000,000 bytes, which is what limits.row_bytes allows" in said or words.endswith(" 0 bad")


# Programs and servers


SAYS = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked["method"] == "tools/call":
        ENDLESS
    elif "id" in asked:
        tools = [{"name": "say", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}]
        info = {"protocolVersion": (asked.get("params") or {}).get("protocolVersion", "2025-11-25")}
        told = {**info, "capabilities": {"tools": {}}, "serverInfo": {"name": "x", "version": "1"}}
        said = {"initialize": {"result": told}, "tools/list": {"result": {"tools": tools}}}
        unknown = {"error": {"code": -32601, "message": "not known here"}}
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **said.get(asked["method"], unknown)}), flush=True)
"""
SAYINGS = {
    "a line without end": ("sys.stdout.write('x' * 60_000_000)", "it wrote more than 4,000,000 bytes in one line"),
    "stderr without end": ("sys.stderr.write('x' * 60_000_000); sys.exit(1)", "stopped while answering"),
    "lists in lists": (
        'print(\'{"jsonrpc":"2.0","id":%d,"result":{"content":[],"structuredContent":{"a":[%s]}}}\''
        " % (asked['id'], ','.join(['[]'] * 1_300_000)), flush=True)",
        "[cut: ",
    ),
}


@pytest.mark.parametrize("kind", SAYINGS)
def test_what_a_tool_server_writes_is_bounded(tmp_path: Path, kind: str) -> None:
    (tmp_path / "says.py").write_text(SAYS.replace("ENDLESS", SAYINGS[kind][0]))
    spec = {"command": "python", "args": ["-I", "-S", str(tmp_path / "says.py")], "timeout_seconds": 60}
    said = through(TOOL, most=2 * MOST_MB, spec=spec, folder=str(tmp_path))  # a list takes 30 times what is written
    assert SAYINGS[kind][1] in said


@contextmanager
def endless(kind: str, piece: bytes = b" " * 65_536, *, times: int = 20_000, coding: str = "") -> Generator[str]:
    """A server whose every answer goes on and on."""

    class Answers(Handler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            if coding:
                self.send_header("content-encoding", coding)
            self.end_headers()
            try:
                for _ in range(times):
                    self.wfile.write(piece)
            except OSError:
                pass

        do_POST = do_GET

    with listening(Answers) as url:
        yield url


@pytest.mark.parametrize(("kind", "coding"), [("application/json", ""), ("text/event-stream", ""), ("text/x", "gzip")])
def test_what_a_server_answers_over_http_is_bounded(tmp_path: Path, kind: str, coding: str) -> None:
    with endless(kind, coding=coding) as url:
        said = through(TOOL, spec={"url": f"{url}/mcp", "timeout_seconds": 60}, folder=str(tmp_path))
        assert "did not start as an MCP server" in said
        said = through(REGISTRY, url=url, folder=str(tmp_path))
        assert "more than 4,000,000 bytes" in said or "compressed (gzip)" in said


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("retrieve('msgbatch_1')", "more than 64,000,000 bytes"),
        ("create_message(b'{}')", "more than 64,000,000 bytes"),
        ("first_lines('msgbatch_1', 1)", "[b'"),
    ],
)
def test_what_the_api_answers_is_bounded(call: str, words: str) -> None:
    with endless("application/json") as url:
        said = through(API, url=url, call=call)
    assert words in said
