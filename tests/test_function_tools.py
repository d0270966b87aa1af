"""A job's own functions as tools: whatever they do, a call ends in an outcome, as a server's would."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest import make_job

from rowtide.errors import UserMistake
from rowtide.job.job_folder import load_job
from rowtide.job.job_spec import ToolServerSpec
from rowtide.tools.function_host import Mistake, load, tools_of
from rowtide.tools.operator_servers import OperatorServers, ServerPlace, apply_operator_servers
from rowtide.tools.tools import ToolOutcome, ToolPool

SERVERS = Path(__file__).parent / "servers"


def pool(folder: Path = SERVERS, output_chars: int = 500, **spec: Any) -> ToolPool:
    given = {"python": "functions.py", "timeout_seconds": 10, **spec}
    return ToolPool({"own": ToolServerSpec.model_validate(given)}, folder, {"PATH": "/usr/bin:/bin"}, output_chars)


def said(outcome: ToolOutcome) -> Any:
    assert not outcome.is_error, outcome.text
    return orjson.loads(outcome.text)


async def test_typed_and_documented_functions_are_tools_with_their_schemas() -> None:
    async with pool() as tools:
        catalogue = {tool.name: tool for tool in await tools.catalogue()}
    assert {"own.add", "own.slow_add", "own.find", "own.again", "own.pay"} <= catalogue.keys()
    assert not {"own._private", "own.Place", "own.UNUSED", "own.wraps"} & catalogue.keys()
    add, find = catalogue["own.add"], catalogue["own.find"]
    assert (add.description, add.may_write) == ("Add two numbers.", False)
    assert add.input_schema["required"] == ["a"]
    assert add.input_schema["additionalProperties"] is False
    assert find.input_schema["properties"]["place"]["description"] == "Its name, as it is written there."
    assert [*catalogue["own.pay"].input_schema["properties"]] == ["amount"], "the key is Rowtide's to give"


async def test_what_a_function_returns_is_what_the_row_reads() -> None:
    async with pool() as tools:
        calls: dict[str, dict[str, object]] = {
            "add": {"a": 2},
            "slow_add": {"a": 2, "b": 3},
            "find": {"place": "Ur"},
            "again": {"text": "twice"},
            "nothing": {"x": 1},
            "talk": {"words": "hello"},
        }
        found = {name: await tools.call(f"own__{name}", given) for name, given in calls.items()}
        odd = {kind: await tools.call("own__odd", {"kind": kind}) for kind in ("nan", "half", "nul", "long", "set")}
        raw = await tools.call("own__odd", {"kind": "bytes"})
        refused = await tools.call("own__refuse", {"what": "gold"})
        misfit = await tools.call("own__add", {"a": "two"})
    assert {name: said(each) for name, each in found.items()} == {
        "add": {"sum": 3},
        "slow_add": {"result": 5},
        "find": {"name": "Ur", "people": 2},
        "again": {"result": "twice"},
        "nothing": {"result": None},
        "talk": {"result": "hello, ''"},
    }
    assert all(each.text for each in (*odd.values(), raw)), "nobody waits for an answer that cannot be written"
    assert (refused.is_error, refused.text) == (True, "Error executing tool refuse: LookupError: there is no gold")
    assert (misfit.is_error, "own.add was not called" in misfit.text) == (True, True)


@pytest.mark.slow
async def test_a_crash_or_a_hang_is_the_calls_own_and_the_others_go_on() -> None:
    async with pool(timeout_seconds=4, concurrency=4) as tools:
        await tools.catalogue()
        calls: list[tuple[str, dict[str, object]]] = [("own__add", {"a": n}) for n in range(40)]
        bad: dict[int, tuple[str, dict[str, object]]] = {
            5: ("own__crash", {"how": "exit"}),
            11: ("own__crash", {"how": "segfault"}),
            17: ("own__crash", {"how": "sys.exit"}),
            23: ("own__hang", {"seconds": 60}),
            29: ("own__hang_the_loop", {"seconds": 60}),
            35: ("own__large", {"megabytes": 10}),
        }
        for place, call in bad.items():
            calls[place] = call
        found = await tools.call_all(calls)
        last = await tools.call("own__add", {"a": 1, "b": 1})
    wrong = {place: each.text for place, each in enumerate(found) if each.is_error}
    assert bad.keys() <= wrong.keys() <= bad.keys() | {*range(24, 40)}, "who waits beside a stuck loop waits in vain"
    assert all("ended its server each time" in wrong[place] for place in (5, 11))
    assert all("did not answer within 4 seconds" in wrong[place] for place in (23, 29))
    assert "it called sys.exit('enough')" in wrong[17]
    assert "more than 4,000,000 bytes" in wrong[35]
    assert said(last) == {"sum": 2}


@pytest.mark.slow
async def test_no_row_can_tell_a_function_from_the_same_function_behind_a_server() -> None:
    calls: list[tuple[str, dict[str, object]]] = [
        ("own__add", {"a": 2, "b": 3}),
        ("own__add", {"a": "2"}),
        ("own__slow_add", {"a": 2, "b": 3}),
        ("own__find", {"place": "Ur"}),
        ("own__again", {"text": "twice"}),
        ("own__nothing", {"x": 1}),
        ("own__crash", {"how": "exit"}),
        ("own__hang", {"seconds": 60}),
        ("own__nobody", {}),
    ]
    server: dict[str, Any] = {"python": None, "command": "python", "args": ["functions_server.py"]}
    names = ["add", "slow_add", "find", "again", "nothing", "crash", "hang"]
    found: list[list[tuple[Any, ...]]] = []
    for spec in (dict[str, Any](), server):
        async with pool(timeout_seconds=3, tools=names, **spec) as tools:
            listed = [(tool.name, tool.description, tool.input_schema) for tool in await tools.catalogue()]
            outcomes = [await tools.call(*call) for call in calls]
        found.append([*listed, *((each.tool, each.text, each.is_error) for each in outcomes)])
    assert found[0] == found[1]


async def test_the_documents_example_works_as_it_stands_there(tmp_path: Path) -> None:
    text = (SERVERS.parent.parent / "docs" / "tools.md").read_text(encoding="utf-8")
    content = text.partition("**`tools.py`**\n\n```python\n")[2].partition("```")[0]
    (tmp_path / "tools.py").write_text(content, encoding="utf-8")
    async with pool(tmp_path, python="tools.py") as tools:
        found = await tools.call("own__price_of", {"article": "A-1"})
        missing = await tools.call("own__price_of", {"article": "C-3"})
    assert said(found) == {"price": 9.5}
    assert missing.text.endswith("LookupError: no article C-3; ask for it as it stands in the row")


async def test_permissions_and_keys_are_a_servers() -> None:
    async with pool(tools=["add", "pay"], allow=["pay"]) as tools:
        offered = {tool.name: tool.may_write for tool in await tools.catalogue()}
        paid = await tools.call("own__pay", {"amount": 3}, idempotency_key="run-1.7.2.0")
        denied = await tools.call("own__talk", {"words": "hello"})
    assert offered == {"own.add": False, "own.pay": True}
    assert said(paid) == {"paid": 3, "key": "run-1.7.2.0"}
    assert "There is no tool" in denied.text
    async with pool(tools=["adds"]) as tools:
        with pytest.raises(UserMistake, match=r"no tool 'adds'.*did you mean 'add'"):
            await tools.catalogue()


async def test_a_long_result_is_cut_and_a_secret_is_masked(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text(
        'import os\ndef tell(x: int) -> str:\n    "Tell."\n    return os.environ["WORD"] + "." * 1000\n'
    )
    specs = {"own": ToolServerSpec.model_validate({"python": "tools.py", "env": {"WORD": "${WORD}"}})}
    async with ToolPool(specs, tmp_path, {"PATH": "/usr/bin:/bin", "WORD": "open-sesame-4711"}, 100) as tools:
        found = await tools.call("own__tell", {"x": 1})
    assert "open-sesame" not in found.text
    assert found.text.startswith('{"result":"${WORD}...') and "[cut:" in found.text


async def test_many_calls_at_once_each_get_their_own_answer() -> None:
    async with pool(tools=["add", "slow_add"], concurrency=32) as tools:
        calls: list[tuple[str, dict[str, object]]] = [
            (f"own__{'slow_' * (n % 2)}add", {"a": n, "b": 1}) for n in range(400)
        ]
        found = [said(each) for each in await tools.call_all(calls)]
    assert found == [{"result": n + 1} if n % 2 else {"sum": n + 1} for n in range(400)]


MISTAKES: dict[str, tuple[str, int | None, str]] = {
    "nothing at all": ("", None, "no function here"),
    "only private ones": ('def _find(x: str) -> str:\n    "Find."\n', None, "no function here"),
    "only other people's": ("from os.path import join\n", None, "no function here"),
    "no type": ('\ndef find(city) -> str:\n    "Find."\n', 2, "find: the parameter city has no type"),
    "no docstring": ("def find(city: str) -> str:\n    return city\n", 1, "find has no docstring"),
    "any number of parameters": ('def find(*city: str) -> str:\n    "Find."\n', 1, "find takes *city"),
    "any names": ('def find(**city: str) -> str:\n    "Find."\n', 1, "find takes *city"),
    "a generator": ('def find(city: str):\n    "Find."\n    yield city\n', 1, "find yields"),
    "no such type": ('def find(city: "Nowhere") -> str:\n    "Find."\n', 1, "find: "),
    "a type of no data": ('import socket\ndef find(city: socket.socket) -> str:\n    "Find."\n', 2, "find: "),
    "a name of the library's": ('def find(_city: str) -> str:\n    "Find."\n', 1, "find: "),
    "no Python": ("x = 1\ndef find(city: str -> str:\n", 2, "invalid syntax"),
    "an error": ("x = 1\n\nx / 0\n", 3, "ZeroDivisionError"),
    "an error below": ("def one():\n    return {}['a']\n\none()\n", 2, "KeyError: 'a'"),
    "a package that is not there": ("import no_such_package\n", 1, "No module named 'no_such_package'"),
    "an end": ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_in_the_file_is_named_with_its_line(kind: str, tmp_path: Path) -> None:
    content, line, words = MISTAKES[kind]
    file = tmp_path / f"tools_{len(kind)}.py"
    file.write_text(content)
    with pytest.raises(Mistake) as found:
        tools_of(load(file))
    assert words in found.value.what
    assert found.value.line == line


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ('\ndef find(city) -> str:\n    "Find."\n', r"tools.py:2: find: the parameter city has no type"),
        ("import os\nos._exit(3)\n", r"tools.py: the process ended while it was read"),
        (None, r"tools.py: .*no such file"),
    ],
)
async def test_it_is_found_before_a_cent_is_spent(content: str | None, where: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "tools.py").write_text(content)
    with pytest.raises(UserMistake, match=where):
        async with pool(tmp_path, python="tools.py") as tools:
            await tools.catalogue()


def test_the_files_bytes_are_part_of_how_a_row_is_asked(tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", tools={"own": {"python": "tools.py"}})
    versions: list[Any] = []
    for content in ("x = 1", "x = 2"):
        (job / "tools.py").write_text(content)
        versions.append(load_job(job).version)
    assert versions[0].asking != versions[1].asking
    assert versions[0].judging == versions[1].judging


@pytest.mark.parametrize(
    "more", [{"args": ["x"]}, {"headers": {"A": "b"}}, {"command": "python"}, {"placement": "connector"}]
)
def test_a_key_that_means_nothing_beside_python_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="`args` and `headers`|give one of|needs a `url`"):
        ToolServerSpec.model_validate({"python": "tools.py", **more})


def test_a_server_takes_their_place_by_config_alone() -> None:
    specs = {"own": ToolServerSpec.model_validate({"python": "tools.py", "tools": ["find"], "remember": True})}
    places = OperatorServers({"own": ServerPlace(command="python", args=["server.py"])})
    found = apply_operator_servers("job", specs, places)["own"]
    assert (found.python, found.command, found.tools, found.remember) == (None, "python", ["find"], True)


async def test_a_call_that_nobody_waits_for_any_more_is_given_up(tmp_path: Path) -> None:
    """So that a function that sleeps for ever holds nothing up once its row was told."""
    (tmp_path / "tools.py").write_text(
        "import asyncio\nended = []\n"
        "async def wait(x: int) -> str:\n    'Wait.'\n"
        "    try:\n        await asyncio.sleep(60)\n    finally:\n        ended.append(x)\n    return ''\n"
        "def how_many(x: int) -> int:\n    'How many have ended.'\n    return len(ended)\n"
    )
    async with pool(tmp_path, python="tools.py", timeout_seconds=0.5) as tools:
        late = await asyncio.gather(*(tools.call("own__wait", {"x": n}) for n in range(2)))
        ended = await tools.call("own__how_many", {"x": 1})
    assert all("did not answer" in each.text for each in late)
    assert said(ended) == {"result": 2}
