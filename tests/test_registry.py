"""A job says what it needs; the registry says who does it, and what was found is pinned."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from listening import Handler, listening

from rowtide.errors import UserMistake, WorldError
from rowtide.job.job_spec import ToolServerSpec
from rowtide.tools.server_lookup import Pinned, resolve_servers
from rowtide.tools.tools import ToolPool

SERVERS = Path(__file__).parent / "servers"
FILES = orjson.loads((SERVERS / "files.json").read_bytes())
OFFICIAL = "io.modelcontextprotocol.registry/official"


async def found(registry: str = "registry.yaml", environment: dict[str, str] | None = None, **spec: Any) -> Pinned:
    specs = {"it": ToolServerSpec.model_validate(spec)}
    pinned = await resolve_servers(specs, registry=registry, folder=SERVERS, environment=environment or {})
    return pinned["it"]


async def test_a_capability_becomes_the_server_that_has_it_and_its_tools_can_be_called() -> None:
    shop = await found(capability="prices")
    sums = await found(capability="sums", tools=["add", "contradict"], timeout_seconds=9)
    environment = {"PATH": "/usr/bin:/bin"}
    async with ToolPool({"shop": shop.spec, "sums": sums.spec}, SERVERS, environment, 500) as tools:
        names = [tool.name for tool in await tools.catalogue()]
        price = await tools.call("shop__price", {"thing": "bread"})
    assert (shop.name, shop.version) == ("io.example/shop", "0.1")
    assert (sums.name, sums.version, sums.spec.timeout_seconds) == ("io.example/fickle", "2.0", 9)
    assert sums.spec.capability is None
    assert names == ["shop.price", "sums.add", "sums.contradict"]
    assert price.text == '{"price_eur":3.2}'


async def test_the_registry_of_this_repository_can_be_read() -> None:
    pinned = await found(registry=str(SERVERS.parent.parent / "registry.yaml"), capability="time")
    assert (pinned.name, pinned.spec.command) == ("mcp-server-time", "uvx")


async def test_a_server_the_job_names_itself_needs_no_registry() -> None:
    pinned = await found(registry="nowhere.yaml", command="python", args=["fickle.py"])
    assert pinned == Pinned(ToolServerSpec(command="python", args=["fickle.py"]), "it", None)


async def test_a_server_json_is_started_as_the_format_says_and_no_secret_is_pinned() -> None:
    pinned = await found(environment={"FILES_TOKEN": "secret"}, capability="files", args=["data"])
    assert (pinned.name, pinned.version) == ("io.github.example/files", "1.2.3")
    assert pinned.spec.command == "npx"
    assert pinned.spec.args == ["-y", "--prefer-offline", "@example/files@1.2.3", "--mode", "read-deep", "data"]
    assert pinned.spec.env == {"FILES_TOKEN": "${FILES_TOKEN}", "FILES_LOG": "warn"}
    assert "secret" not in pinned.spec.model_dump_json()


async def test_a_connector_takes_the_remote_and_its_headers_come_from_the_environment() -> None:
    pinned = await found(capability="files", placement="connector", headers={"X-Trace": "on"})
    assert pinned.spec.url == "https://${TENANT}.files.example/mcp"
    assert pinned.spec.headers == {
        "Authorization": "Bearer ${FILES_TOKEN}",
        "X-API-Key": "${X_API_KEY}",
        "X-Trace": "on",
    }


async def test_a_python_package_is_run_by_uvx() -> None:
    packages = [{"registryType": "pypi", "identifier": "mcp-server-time", "version": "1.0"}]
    named = [{**packages[0], "runtimeArguments": [{"type": "named", "name": "--from", "value": "times[mcp]==1.0"}]}]
    with registry_of({"name": "a/time", "version": "1", "packages": packages}) as url:
        plain = await found(registry=url, capability="time")
    with registry_of({"name": "a/time", "version": "1", "packages": named}) as url:
        other = await found(registry=url, capability="time")
    assert (plain.spec.command, plain.spec.args) == ("uvx", ["mcp-server-time@1.0"])
    assert (other.spec.command, other.spec.args) == ("uvx", ["--from", "times[mcp]==1.0", "mcp-server-time"])


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"capability": "price"}, "registry.yaml: tools.it.capability: no server has .*did you mean 'prices'"),
        ({"capability": "files"}, "tools.it.args: the server needs 'folder': give it under `args`"),
    ],
)
async def test_a_mistake_names_the_file_the_key_and_the_nearest(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(UserMistake, match=words):
        await found(**spec)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("servers: [{name: a, capabilites: [x], url: u}]", "servers.0.capabilit.*"),
        ("servers: [{name: a, capabilities: [x]}]", "give one of `command`, `url`, `stub` and `server_json`"),
        ("servers: [{capabilities: [x], url: u}]", "a server needs a `name`"),
        ("servers: [", "not YAML"),
    ],
)
async def test_a_mistake_in_the_registry_names_it(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "registry.yaml").write_text(text)
    with pytest.raises(UserMistake, match=f"registry.yaml:.*{words}"):
        await found(registry=str(tmp_path / "registry.yaml"), capability="x")


async def test_no_registry_at_all_is_a_mistake_of_the_job() -> None:
    with pytest.raises(UserMistake, match="tools.it.capability: no 'other.yaml'"):
        await found(registry="other.yaml", capability="x")


@contextmanager
def registry_of(*servers: dict[str, Any], meta: dict[str, Any] | None = None, status: int = 200) -> Generator[str]:
    """A server that speaks the MCP registry's API, two servers a page."""

    class Answers(Handler):
        def do_GET(self) -> None:
            asked = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
            at = int(asked.get("cursor", 0))
            hits = [each for each in servers if asked["search"] in each["name"]]
            page = [{"server": each, "_meta": {OFFICIAL: meta or {}}} for each in hits[at : at + 2]]
            more = {"nextCursor": str(at + 2)} if at + 2 < len(hits) else {}
            is_it = urlsplit(self.path).path == "/v0.1/servers"
            self.send_response(status if is_it else 404)
            self.end_headers()
            self.wfile.write(orjson.dumps({"servers": page, "metadata": {"count": len(page), **more}}))

    with listening(Answers) as url:
        yield url


def like(name: str) -> dict[str, Any]:
    return {**FILES, "name": name}


@pytest.fixture
def many() -> Generator[str]:
    with registry_of(*(like(f"io.github.user{n}/files-{n}") for n in range(5)), like("com.example/files")) as url:
        yield url


async def test_a_registry_is_asked_page_by_page(many: str) -> None:
    pinned = await found(registry=many, capability="files", args=["data"])
    whole = await found(registry=many, capability="io.github.user3/files-3", args=["data"])
    assert pinned.name == "com.example/files"
    assert whole.name == "io.github.user3/files-3"
    assert pinned.spec.args[2] == "@example/files@1.2.3"


async def test_a_registry_that_lists_several_of_one_name_is_never_guessed_at() -> None:
    with (
        registry_of(like("a.example/files"), like("b.example/files")) as url,
        pytest.raises(
            UserMistake, match="2 servers are named 'files'; ask for one by its whole name: a.example/files, b"
        ),
    ):
        await found(registry=url, capability="files")


async def test_what_a_registry_has_deleted_is_not_found() -> None:
    with (
        registry_of(like("a/files"), meta={"status": "deleted"}) as url,
        pytest.raises(UserMistake, match="no server is"),
    ):
        await found(registry=url, capability="files")


async def test_a_registry_that_is_down_is_the_worlds_fault_and_one_that_is_none_is_the_jobs() -> None:
    with registry_of(status=503) as url, pytest.raises(WorldError, match="says 503"):
        await found(registry=url, capability="files")
    with registry_of() as url, pytest.raises(UserMistake, match="no MCP registry: it says 404"):
        await found(registry=f"{url}/elsewhere", capability="files")
    with pytest.raises(WorldError, match="cannot be reached"):
        await found(registry="http://127.0.0.1:1", capability="files")
