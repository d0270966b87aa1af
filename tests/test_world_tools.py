"""Tools: what they said, what of it is remembered, and what of it is believed. Foreign servers send anything."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from conftest import NOW, make_rows, make_run
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, create_model
from run_summaries import summarize
from sqlalchemy import text as sql

from cli.show import history_lines
from rowtide.agent.agent import CallTools, RowAt, ToolUse
from rowtide.agent.grounding import Evidence, ToolOutput, ungrounded_claims
from rowtide.agent.reply_parsing import Replied, parse_result_line
from rowtide.errors import UserMistake
from rowtide.job.job_spec import GroundingSpec, ToolServerSpec
from rowtide.job.wire_names import WIRE_CHARS, server_of_wire_name, wire_name, wire_name_of_plain
from rowtide.json_bytes import dump_json, parse_json
from rowtide.lanes.lane_table import LIVE
from rowtide.ledger import live_calls as ledger_live_calls
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger import turns as ledger_turns
from rowtide.ledger.ledger import Ledger, Run, find_run, to_timestamp
from rowtide.ledger.read.row_history import row_history
from rowtide.ledger.rows import MoveReason
from rowtide.ledger.tool_calls import record_outputs
from rowtide.ledger.turns import Reply, ToolRecord, record_tool_calls
from rowtide.report.summary_text import tool_lines
from rowtide.stages.follow_up.tool_calls import call_tools
from rowtide.stages.run_context import RunContext
from rowtide.tools.tool_results import result_text
from rowtide.tools.tools import ToolPool

SERVERS = Path(__file__).parent / "servers"
WIRE = re.compile(r"[a-zA-Z0-9_-]{1,64}")
READS = {"readOnlyHint": True}


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}, "annotations": READS, **more}


def result(said: str) -> str:
    """A line of JSON-RPC around a result, as it is written."""
    return f'{{"jsonrpc":"2.0","id":ID,"result":{said}}}'


def content(*texts: str, more: str = "") -> str:
    """A result of texts, and more keys as they are written."""
    return f'{{"content":{json.dumps([{"type": "text", "text": each} for each in texts])}{more}}}'


def scripted(folder: Path, *pages: Any, answers: Any = None, name: str = "s", **spec: Any) -> ToolPool:
    """Tools of a server that says what is written here."""
    return pool_of(**{name: script(folder, *pages, answers=answers, **spec)})


def script(folder: Path, *pages: Any, answers: Any = None, **spec: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    listed = pages or ([tool(each) for each in answers],)
    told = [page if isinstance(page, dict) else {"tools": page} for page in listed]
    (folder / "script.json").write_text(json.dumps({"pages": told, "answers": answers or {}}))
    args = ["-I", "-S", str(SERVERS / "scripted.py"), str(folder / "script.json")]
    return {"command": "python", "args": args, "timeout_seconds": 20, "concurrency": 30, **spec}


def pool_of(**specs: dict[str, Any]) -> ToolPool:
    validated = {name: ToolServerSpec.model_validate(spec) for name, spec in specs.items()}
    return ToolPool(validated, SERVERS, {"PATH": "/usr/bin:/bin"}, 1000)


# What a tool says


SAID = {
    "a number over 64 bits": (
        '{"content":[],"structuredContent":{"n":123456789012345678901234567890}}',
        '{"n":123456789012345678901234567890}',
    ),
    "a number over 64 bits, below zero": ('{"content":[],"structuredContent":{"n":-%s}}' % ("9" * 40), "9" * 40),
    "not a number": ('{"content":[],"structuredContent":{"n":NaN,"m":Infinity}}', '{"n":NaN,"m":Infinity}'),
    "half a pair of surrogates": ('{"content":[{"type":"text","text":"a\\ud83d b"}]}', "a\ufffd b"),
    "half a pair, structured": ('{"content":[],"structuredContent":{"a":"x\\ude00y"}}', '{"a":"x\ufffdy"}'),
    "bytes that are no UTF-8": ('{"content":[{"type":"text","text":"caf\xe9"}]}', "caf\ufffd"),
    "a NUL": ('{"content":[{"type":"text","text":"a\\u0000b"}]}', "a\ufffdb"),
    "a NUL, structured": ('{"content":[],"structuredContent":{"a":"\\u0000"}}', '{"a":"\\u0000"}'),
    "text beside structured content": (
        content("but see page 3", more=',"structuredContent":{"a":1}'),
        '{"a":1}\nbut see page 3',
    ),
    "the same twice": (content('{\n "a": 1 }', more=',"structuredContent":{"a":1}'), '{"a":1}'),
    "a list, item by item": (
        content("a", "b", more=',"structuredContent":{"result":["a","b"]}'),
        '{"result":["a","b"]}',
    ),
    "nothing": ('{"content":[]}', "[it said nothing]"),
    "an image": ('{"content":[{"type":"image","data":"aGk=","mimeType":"image/png"}]}', "[image, image/png, left out"),
    "a sound": ('{"content":[{"type":"audio","data":"aGk=","mimeType":"audio/wav"}]}', "[audio, audio/wav, left out"),
    "a link": (
        '{"content":[{"type":"resource_link","uri":"file:///x","name":"x","description":"the list"}]}',
        "[a link to file:///x, which was not opened: the list]",
    ),
    "a resource of text": (
        '{"content":[{"type":"resource","resource":{"uri":"file:///z","text":"inside"}}]}',
        "inside",
    ),
    "a resource of bytes": (
        '{"content":[{"type":"resource","resource":{"uri":"file:///z","blob":"aGk="}}]}',
        "[resource, file:///z, left out",
    ),
}
REFUSED = {
    "an error with structured content": (
        content("no", more=',"isError":true,"structuredContent":{"code":7}'),
        "7",
    ),
    "nothing of a result": ("{}", "content: Field required"),
    "null": ("null", "its answer is not MCP"),
    "content that is text": ('{"content":"hello"}', "content"),
    "a block nobody knows": ('{"content":[{"type":"hologram"}]}', "hologram"),
    "structured content of no shape": ('{"content":[],"structuredContent":[1,2]}', "structuredContent"),
    "a question back": ('{"resultType":"input_required","inputRequests":{}}', "cannot be used"),
    "depth": ('{"content":[],"structuredContent":{"a":%s}}' % ("[" * 500 + "]" * 500), "cannot be used"),
    "more depth": ('{"content":[],"structuredContent":{"a":%s}}' % ("[" * 50_000 + "]" * 50_000), "is not MCP"),
    "more digits than Python reads": ('{"content":[],"structuredContent":{"a":%s}}' % ("9" * 5000), "is not MCP"),
}


async def test_whatever_a_tool_says_reaches_the_model_as_it_is_or_in_words(tmp_path: Path) -> None:
    lines = {name: result(said) for name, (said, _) in (SAID | REFUSED).items()}
    lines["a protocol error"] = '{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"database is locked"}}'
    lines["a broken protocol error"] = '{"jsonrpc":"2.0","id":ID,"error":"bad"}'
    async with scripted(tmp_path, answers=lines) as tools:
        wires = {name: wire_name("s", name) for name in lines}
        found = dict(zip(lines, await tools.call_all([(wire, {}) for wire in wires.values()]), strict=True))
    wrong = {
        name: found[name].text
        for name, (_, words) in (SAID | REFUSED).items()
        if words not in found[name].text or found[name].is_error != (name in REFUSED)
    }
    assert not wrong
    assert "database is locked" in found["a protocol error"].text
    assert found["a broken protocol error"].is_error
    assert all("Traceback" not in each.text and "pydantic.dev" not in each.text for each in found.values())
    assert found["the same twice"].text == '{"a":1}'
    assert found["a list, item by item"].text == '{"result":["a","b"]}'


async def test_a_tool_whose_answers_are_no_answers_does_not_end_its_server_for_the_others(tmp_path: Path) -> None:
    answers = {"bad": result("{}"), "good": result(content("well"))}
    async with scripted(tmp_path, answers=answers) as tools:
        bad = [await tools.call("s__bad", {}) for _ in range(20)]
        good = await tools.call("s__good", {})
    assert all(each.is_error for each in bad)
    assert (good.text, good.is_error) == ("well", False)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


@given(values, st.lists(st.text(st.characters(codec="utf-8"), min_size=1), max_size=3))
def test_structured_content_is_carried_whole_and_every_text_that_says_more_stands_after_it(
    structured: Any, blocks: list[str]
) -> None:
    said = result_text(blocks, {"result": structured})
    first, *rest = said.split("\n", 1)
    assert json.loads(first) == {"result": structured}
    told = [*inside({"result": structured})]
    new = [block for block in blocks if repr(block) not in told and repr(parsed(block)) not in told]
    assert rest == (["\n".join(new)] if new else [])


def inside(value: Any) -> Iterator[str]:
    yield repr(value)
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from inside(each)


def parsed(block: str) -> Any:
    try:
        return json.loads(block)
    except ValueError:
        return block


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers()))
def test_the_numbers_a_model_passes_are_as_long_as_it_wrote_them(arguments: dict[str, int]) -> None:
    """orjson reads 2 ** 64 as a fraction, and does not write it at all."""
    block = {"type": "tool_use", "id": "t1", "name": "s__a", "input": arguments}
    message = {"stop_reason": "tool_use", "content": [block], "usage": {}}
    line = {"custom_id": "t-1", "result": {"type": "succeeded", "message": message}}
    _, outcome = parse_result_line(json.dumps(line, ensure_ascii=False).encode())
    assert isinstance(outcome, Replied)
    (kept,) = parse_json(outcome.content)
    assert kept["input"] == arguments
    assert parse_json(dump_json(kept["input"], orjson.OPT_SORT_KEYS)) == arguments


# What servers list


BAD_LISTS = {
    "a tool without a schema": ([[{"name": "find"}]], "inputSchema: Field required.*find"),
    "a tool without a name": ([[{"inputSchema": {"type": "object"}}]], "name: Field required"),
    "a schema that is none": ([[tool("find") | {"inputSchema": 7}]], "inputSchema: .*but it is 7"),
    "two tools of one name": ([[tool("find"), tool("find")]], "two tools called 'find'"),
    "pages in a circle": (
        [{"tools": [tool("a")], "nextCursor": "1"}, {"tools": [tool("b")], "nextCursor": "1"}],
        "no end",
    ),
    "no list": ([{"tools": "none"}], "tools: "),
    "more tools than a prompt holds": ([[tool(f"t{n}") for n in range(10_000)]], "10,000 tools.*name those"),
}


@pytest.mark.parametrize("kind", BAD_LISTS)
async def test_a_list_of_tools_that_is_none_is_refused_before_anything_is_sent(tmp_path: Path, kind: str) -> None:
    pages, words = BAD_LISTS[kind]
    with pytest.raises(UserMistake, match=rf"job.yaml: tools\.crm.*{words}") as caught:
        async with scripted(tmp_path, *pages, name="crm") as tools:
            await tools.catalogue()
    assert len(str(caught.value)) < 2000


async def test_a_few_tools_may_be_chosen_of_ten_thousand(tmp_path: Path) -> None:
    async with scripted(tmp_path, [tool(f"t{n}") for n in range(10_000)], tools=["t7", "t9999"]) as tools:
        assert [each.name for each in await tools.catalogue()] == ["s.t7", "s.t9999"]


# Names


names = st.text(st.characters(), max_size=150) | st.text("ab_-.x0", max_size=80)


@given(st.lists(st.tuples(names, names), min_size=2, max_size=6, unique=True))
def test_no_two_tools_have_one_name_on_the_wire_and_each_is_found_again(pairs: list[tuple[str, str]]) -> None:
    servers = [server for server, _ in pairs]
    wires = [wire_name(server, tool) for server, tool in pairs]
    assert len(set(wires)) == len(pairs)
    assert all(WIRE.fullmatch(wire) for wire in wires)
    assert [server_of_wire_name(wire, servers) for wire in wires] == servers
    server, tool = pairs[0]
    made = wires[0].partition("__")[2]
    assert made == tool or wire_name(server, made) != wires[0], "what was made of one name may be another's own"


@given(st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True), st.from_regex(r"[a-z0-9_-]{1,30}", fullmatch=True))
def test_a_name_that_can_travel_does_so_as_it_is(server: str, tool: str) -> None:
    assert wire_name(server, tool) == f"{server}__{tool}"
    assert wire_name_of_plain(f"{server}.{tool}", [server, server + "x"]) == f"{server}__{tool}"
    assert len(wire_name(server * 9, tool * 9)) <= WIRE_CHARS


async def test_servers_and_tools_may_be_called_anything(tmp_path: Path) -> None:
    wanted = {
        "crm.v2": ["find", "find.by/name", "x" * 150],
        "my crm": ["find"],
        "bücher": ["zählen"],
        "a": ["b__c", "_b", ""],
        "a__b": ["c"],
        "a_": ["b"],
        "": ["find"],
        "x" * 100: ["y" * 100],
        "工具": ["工具"],
    }
    specs = {
        server: script(
            tmp_path / str(number), answers={each: result(content(f"{server}|{each}")) for each in tools}, concurrency=4
        )
        for number, (server, tools) in enumerate(wanted.items())
    }
    async with pool_of(**specs) as pool:
        found = {each.name: each.wire_name for each in await pool.catalogue()}
        calls = [(f"{server}.{each}", f"{server}|{each}") for server, tools in wanted.items() for each in tools]
        heard = await pool.call_all([(found[name], {}) for name, _ in calls])
    assert [(each.tool, each.text, each.is_error) for each in heard] == [(name, words, False) for name, words in calls]
    assert all(WIRE.fullmatch(wire) for wire in found.values())
    assert len(set(found.values())) == len(found)


async def test_two_tools_that_people_would_call_alike_are_refused(tmp_path: Path) -> None:
    specs = {"a": script(tmp_path / "a", [tool("b.c")]), "a.b": script(tmp_path / "b", [tool("c")])}
    with pytest.raises(UserMistake, match=r"job.yaml: tools: 2 tools are called 'a.b.c'"):
        async with pool_of(**specs) as pool:
            await pool.catalogue()


# What is believed


class Colour(Enum):
    RED = "red"


def problems(claim: Any, *outputs: ToolOutput, rule: str = "crm.find") -> list[str]:
    answer = create_model("Answer", value=(Any, ...))
    return ungrounded_claims(
        answer(value=claim), [GroundingSpec(field="value", tool=rule)], Evidence(dict, lambda: outputs)
    )


def is_grounded(claim: Any, said: str) -> bool:
    return not problems(claim, ToolOutput("crm.find", said))


J = json.dumps
STANDS: list[tuple[Any, str]] = [
    ("C-10", J({"id": "C-10"})), ("C-10", "order C-10."), ("C-10", "order (C-10), and"), ("x", "id:x"),
    ("oman", "In Oman's south"), ("Oman", "Oman"), ("New York", "new   york\n city"), ("São Paulo", "sa\u0303o paulo"),
    ("STRASSE", "straße"), ("line\nbreak", J({"a": "line break"})), ("+49 123", "call +49 123 now"), ("$5", "for $5"),
    ("10", J({"a": 10})), (10, J({"a": "10"})), (10, J({"a": 10.0})), (1000, "it has 1,000 rows"), (1000, "1000.0"),
    (-5, "it is -5 C"), (3.14, "pi 3.14."), (0.1, J({"a": 0.1})), (10**30, J({"a": 10**30})), (2, "1,2,3"),
    ("01234", "zip 01234"), ("1.10", '{"v":1.10}'), (Decimal("1.10"), '{"v":1.1}'), (1e3, "1000"),
    (7, '[{"a":7}]\n[{"b":8}]'), (7, "page 7)"),
    (True, J({"a": True})), (False, "false"), (Colour.RED, J(["red"])), (None, ""), ([], ""), ([None], ""),
    (["a", "b"], J({"x": ["a", {"y": "b"}]})), ({"k": "a"}, J(["a"])), ("10", '{"a":1}\nsee 10 rows'),
    ('say "hi"', 'Found: [{"a":"say \\"hi\\""}]'), ("Berlin", J({"place": "Berlin, Germany"})),
    ("C-10", "C-10 xx\n[cut: 9,000 characters, the first 8,000 shown]"),
    ("C-10", "C-10 \n[cut: 9,000 characters, the first 8,000 shown]"),
]  # fmt: skip
STANDS_NOT: list[tuple[Any, str]] = [
    ("C-10", J({"id": "C-100"})), ("C-10", "XC-10"), ("C-10", "C-10-B"), ("C-1", "C-10"), ("10", "C-10"), (10, "C-10"),
    ("Oman", "Romania"), ("Oman", J({"c": "Romania"})), ("Oman", "oman.com"), ("AT", "AT&T"), ("bob", "bob@x.com"),
    ("", "anything"), ("  ", J({"a": ""})), ("", J({"a": ""})), ("", ""), ("id", J({"id": 1})), ("a", "[1,2"),
    ("10", J({"a": 100})), (10, J({"a": 100})), ("10", J({"a": 10.0})), (1, "1,000"), (0, "1,000"), (1000, "11,000"),
    (5, "-5"), ("5", "-5"), (5, "2-5"), (5, "5-10"), (3.14, "pi 3.14159"), (1234, "01234"), ("1234", "01234"),
    (1, J({"a": True})), (True, J({"a": 1})), (True, "it is true"), ("available", J({"available": False})), (1, "10kg"),
    ("1.10", J({"v": 1.1})), (10**30, J({"a": 10**30 + 1})), (["a", "c"], J(["a", "b"])), (float("nan"), "NaN"),
    ([""], "x"), (12, "12:30"),
    ("C-10", "xx C-10\n[cut: 9,000 characters, the first 8,000 shown]"), ("None", J({"a": None})), ("null", J([None])),
]  # fmt: skip


@pytest.mark.parametrize(("claim", "said"), STANDS)
def test_a_whole_value_stands(claim: Any, said: str) -> None:
    assert is_grounded(claim, said)


@pytest.mark.parametrize(("claim", "said"), STANDS_NOT)
def test_a_part_of_a_value_does_not_stand(claim: Any, said: str) -> None:
    assert not is_grounded(claim, said)


@pytest.mark.parametrize("end", ["", "\n[cut: 9,000,000 characters, the first 1,000,000 shown]"])
def test_one_word_of_a_million_characters_is_looked_through_once_and_not_from_each_of_them(end: str) -> None:
    assert is_grounded("a" * 1_000_000, "a" * 1_000_000 + end) is not bool(end)


@given(values, st.lists(st.integers(0, 9)))
def test_every_value_that_a_tool_says_in_json_may_be_claimed_and_no_blank_one(said: Any, path: list[int]) -> None:
    def blank(value: Any) -> bool:
        if isinstance(value, dict | list):
            return any(map(blank, value.values() if isinstance(value, dict) else value))
        return isinstance(value, str) and not value.strip()

    assert is_grounded(said, json.dumps(said)) != blank(said)
    for step in path:
        inner = list(said.values()) if isinstance(said, dict) else said if isinstance(said, list) else []
        said = inner[step % len(inner)] if inner else said
    assert is_grounded(said, json.dumps([said, "and more"])) != blank(said)


@given(st.from_regex(r"[a-z]{1,5}-[0-9]{1,5}", fullmatch=True), st.from_regex(r"[a-z0-9]{1,3}", fullmatch=True))
def test_what_is_written_on_without_a_gap_is_another_value(value: str, more: str) -> None:
    for said in (value + more, value + "-" + more, "x" + value):
        assert not is_grounded(value, J({"a": said}))
        assert not is_grounded(value, f"It was {said}.")


def test_only_a_success_of_the_tool_that_is_named_grounds_a_claim_and_the_model_reads_what_happened() -> None:
    said = ToolOutput("crm.find", J({"id": "C-10"}))
    failed = ToolOutput("crm.find", "Database error: C-10 is locked", is_error=True)
    assert problems("C-10", ToolOutput("crm.list", said.text)) == [
        "value: call crm.find first; the value must come from its output"
    ]
    (told,) = problems("C-10", failed)
    assert "crm.find was called and failed ('Database error: C-10 is locked')" in told
    assert "first" not in told
    (told,) = problems("C-11", failed, said)
    assert "does not stand in what crm.find said" in told
    assert not problems("C-10", failed, said)
    assert not problems("C-10", said, rule="crm.*")
    assert not problems("C-10", ToolOutput("crm.get[1]", said.text), rule="crm.get[1]")


def test_every_value_of_a_nested_claim_must_stand() -> None:
    class Line(BaseModel):
        item: str
        price: float | None

    lines = [Line(item="bread", price=3.2), Line(item="gold", price=None)]
    assert not problems(lines, ToolOutput("crm.find", J([["bread", 3.2], ["gold"]])))
    (told,) = problems(lines, ToolOutput("crm.find", J([["bread", 3.5], ["gold"]])))
    assert told.startswith("value: 3.2 does not stand")


# What is remembered


@dataclass
class Desk:
    """A run whose rows ask tools, turn after turn, by a clock of its own."""

    ledger: Ledger
    run: Run
    pool: ToolPool
    calls: Path
    now: datetime = NOW
    turn: int = 0

    async def ask(self, row_nos: list[int], name: str = "s__find") -> list[ToolRecord]:
        """Let rows ask the same of a tool, and file what they heard."""
        self.turn += 1
        self.now += timedelta(seconds=10)
        page = [
            (RowAt(row_no, f"key-{row_no}", 0, self.turn, 0, 0, 0, 0, 0), CallTools([ToolUse("t1", name, {})]))
            for row_no in row_nos
        ]
        heard = await call_tools(cast(RunContext, self), self.pool, page, clock=lambda: self.now)
        with self.ledger.page() as tx:
            record_tool_calls(tx, heard.records)
            record_outputs(tx, self.run, heard.outputs, asked_at=heard.asked_at)
        return sorted(heard.records)

    def made(self) -> int:
        """How many calls reached the server since this was asked last."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return len(lines)


def desk(ledger: Ledger, folder: Path, *said: str, **spec: Any) -> Desk:
    spec = script(
        folder, [tool("find", annotations=CLOCK)], answers={"find": [result(content(each)) for each in said]}, **spec
    )
    return Desk(ledger, make_run(ledger), pool_of(s=spec), folder / "script.calls")


# As `mcp-server-time` says of its clock: no hint says that a tool's answers keep.
CLOCK = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}


async def test_nothing_is_remembered_unless_the_job_says_so(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    at = desk(sqlite_ledger, tmp_path, "10:00", "10:01", "10:02")
    rows = make_rows(sqlite_ledger, at.run, 3)
    async with at.pool:
        assert sorted(each.output for each in await at.ask(rows)) == ["10:00", "10:01", "10:02"]
        assert (await at.ask(rows[:1]))[0].remembered == 0
    assert at.made() == 4


async def test_what_is_remembered_is_a_success_and_is_shared_until_it_is_too_old(
    ledger: Ledger, tmp_path: Path
) -> None:
    at = desk(ledger, tmp_path, "a", "b", remember={"find": 15})
    rows = make_rows(ledger, at.run, 4)
    async with at.pool:
        first = await at.ask(rows)
        assert ([each.output for each in first], sum(each.remembered for each in first), at.made()) == (["a"] * 4, 3, 1)
        assert [each.output for each in await at.ask(rows)] == ["a"] * 4
        assert at.made() == 0
        assert [each.output for each in await at.ask(rows)] == ["b"] * 4, "20 seconds are more than 15"
        assert at.made() == 1


async def test_an_error_is_neither_shared_nor_remembered_flagged_or_by_the_pattern(
    ledger: Ledger, tmp_path: Path
) -> None:
    """A SQL tool that says in plain text that its database is locked answered every row of a run with that."""
    locked = "Database error: database is locked"
    at = desk(ledger, tmp_path, locked, locked, "Berlin", error_if="^Database error", remember=True)
    rows = make_rows(ledger, at.run, 4)
    async with at.pool:
        found = await at.ask(rows)
        assert Counter((each.output, each.is_error) for each in found) == {(locked, 1): 2, ("Berlin", 0): 2}
        assert at.made() == 4
        assert {each.output for each in await at.ask(rows)} == {"Berlin"}
        assert at.made() == 0


async def test_a_row_that_is_sent_again_asks_anew_and_others_do_not(ledger: Ledger, tmp_path: Path) -> None:
    at = desk(ledger, tmp_path, "old", "new", remember=True)
    rows = make_rows(ledger, at.run, 2)
    async with at.pool:
        await at.ask(rows)
        with ledger.page() as tx:
            values = {"row": rows[0], "now": to_timestamp(at.now)}
            tx.execute(
                sql(
                    "INSERT INTO note (row_no, turn, move, reason, detail, noted_at) "
                    "VALUES (:row, 1, 'retry', 'not_verified', '', :now)"
                ),
                values,
            )
        assert [each.output for each in await at.ask(rows)] == ["new", "old"]
        assert [each.output for each in await at.ask(rows)] == ["new", "new"]


async def test_what_was_kept_before_the_pattern_called_it_an_error_is_not_used(
    sqlite_ledger: Ledger, tmp_path: Path
) -> None:
    at = desk(sqlite_ledger, tmp_path, "Database error: locked", remember=True)
    rows = make_rows(sqlite_ledger, at.run, 1)
    async with at.pool:
        await at.ask(rows)
    edited = script(
        tmp_path, [tool("find")], answers={"find": result(content("Berlin"))}, remember=True, error_if="^Database"
    )
    async with pool_of(s=edited) as at.pool:
        assert [each.output for each in await at.ask(rows)] == ["Berlin"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"error_if": "(("}, "error_if.*no regular expression"),
        ({"error_if": {"find": ".*"}}, "error_if.*no regular expression"),
        ({"remember": -1}, "remember"),
        ({"remember": {"find": "often"}}, "remember.*not 'often'"),
    ],
)
def test_what_is_remembered_is_said_in_seconds_and_errors_by_a_pattern(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s){words}"):
        ToolServerSpec.model_validate({"command": "x", **spec})


@pytest.mark.parametrize("key", ["remember", "error_if"])
async def test_a_key_about_a_tool_that_is_not_there_is_refused(tmp_path: Path, key: str) -> None:
    spec = {key: {"fnd": True if key == "remember" else "x"}}
    with pytest.raises(UserMistake, match=rf"tools\.s\.{key}: .*no tool 'fnd'.*did you mean 'find'"):
        async with scripted(tmp_path, [tool("find")], **spec) as tools:
            await tools.catalogue()


# What is told


def test_show_tells_how_a_live_row_went_and_which_call_ended_it(sqlite_ledger: Ledger) -> None:
    """A call that was one too many was shown nowhere, and each live turn as sent with "batch None" as the run began."""
    (row_no,) = tell_of_a_loop(sqlite_ledger)
    with sqlite_ledger.view() as tx:
        lines = history_lines(row_history(tx, "key-1"), width=400)
    told = "\n".join(lines)
    assert row_no
    assert "None" not in told
    assert "Turn 1, haiku, live call, sent 2026-11-21T12:00:05" in told
    assert "Turn 2, haiku, live call, sent 2026-11-21T12:01:07" in told
    assert "which said (remembered of an earlier call): Berlin" in told
    assert told.index("it asked for s__find(n=2), which was not made") < told.index("(loop)")
    assert told.count("which was not made") == 1


def test_the_summary_counts_what_failed_by_the_pattern_too(sqlite_ledger: Ledger) -> None:
    tell_of_a_loop(sqlite_ledger)
    with sqlite_ledger.view() as tx:
        found = summarize(tx, find_run(tx, "run-1"), now=NOW)
    assert (found["tool_calls"], found["tool_errors"], found["tools_remembered"]) == (2, 1, 1)
    assert "tools    1 of 2 calls of s.find failed, such as: Database error: locked" in "\n".join(tool_lines(found))


def tell_of_a_loop(ledger: Ledger) -> list[int]:
    """A live row that called a tool twice, and then once too often."""
    run = make_run(ledger, lane="live")
    rows = make_rows(ledger, run, 1)
    (row_no,) = rows

    def asks(*numbers: int) -> bytes:
        return dump_json([{"type": "tool_use", "id": f"t{n}", "name": "s__find", "input": {"n": n}} for n in numbers])

    with ledger.page() as tx:
        batch_no = ledger_live_calls.begin_live_calls(tx, run, LIVE, "tag", now=NOW)
        for turn, (content, after) in enumerate([(asks(0, 1), 5), (asks(2), 67)], 1):
            ledger_live_calls.start_calls(tx, batch_no, {row_no: 0})
            asked_at = to_timestamp(NOW + timedelta(seconds=after))
            replies = [Reply(row_no, turn, batch_no, 0, "tool_use", content, 0, 0, 0, 0, 0, 0, asked_at=asked_at)]
            ledger_turns.file_replies(tx, replies)
            if turn == 1:
                heard = [("Database error: locked", 1, 0), ("Berlin", 0, 1)]
                ledger_turns.record_tool_calls(
                    tx,
                    [
                        ToolRecord(row_no, 1, n, f"t{n}", "s.find", b'{"n":%d}' % n, output, failed, 1, remembered)
                        for n, (output, failed, remembered) in enumerate(heard)
                    ],
                )
                ledger_rows.continue_after_tools(tx, {row_no: 2})
        ledger_rows.quarantine_rows(tx, [MoveReason(row_no, 2, "loop", "s__find was called 2 times")], now=NOW)
    return rows
