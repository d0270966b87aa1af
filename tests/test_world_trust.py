"""Whom Rowtide trusts with tools: what a registry says, what a server tells of its secrets, what it leaves behind."""

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from conftest import make_job, wait_until
from listening import Handler, listening
from outside import ROOT, rowtide
from servers import leaky

from rowtide.errors import UserMistake
from rowtide.job.job_spec import ToolServerSpec
from rowtide.tools.server_lookup import resolve_servers
from rowtide.tools.server_secrets import ServerSecrets
from rowtide.tools.tools import ToolPool
from rowtide.tools.trust import LOCK_FILE, NotTrusted, allow_servers, check_trusted

SERVERS = Path(__file__).parent / "servers"
NO_KEY: dict[str, str | None] = {"ANTHROPIC_API_KEY": None, "ANTHROPIC_BASE_URL": None}
STARTED = """
import pathlib, sys
sys.argv = ["leaky.py"]
pathlib.Path(FLAG).open("a").write("started\\n")
exec(pathlib.Path(LEAKY).read_text())
"""


# What a registry says is a stranger's word


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job that asks for a capability; the registry beside it lists a program that leaves a mark when it starts."""
    folder = make_job(tmp_path / "asks", tools={"it": {"capability": "notes", "tools": ["say"]}})
    program = STARTED.replace("FLAG", repr(str(tmp_path / "mark"))).replace("LEAKY", repr(str(SERVERS / "leaky.py")))
    (folder / "program.py").write_text(program)
    lists(folder, version="1.0")
    return folder


def lists(folder: Path, **entry: Any) -> None:
    told = {"name": "x.example/notes", "capabilities": ["notes"], "command": "python", "args": ["program.py"], **entry}
    (folder / "registry.yaml").write_text(yaml.safe_dump({"servers": [told]}))


def test_nothing_that_a_registry_lists_is_started_before_a_person_has_allowed_it_as_it_is(
    job: Path, tmp_path: Path
) -> None:
    mark, given = tmp_path / "mark", {**NO_KEY, "ROWTIDE_HOME": str(tmp_path / "home"), "A_SECRET": "a-secret"}
    refused = rowtide("plan", job, environment=given)
    assert (refused.status, mark.exists()) == (2, False), refused.err
    for told in ("x.example/notes 1.0", "`python program.py`", "registry.yaml", "rowtide plan asks --trust"):
        assert told in refused.err
    allowed = rowtide("plan", job, "--trust", environment=given)
    assert (allowed.status, mark.exists()) == (0, True), allowed.err
    written = yaml.safe_load((job / LOCK_FILE).read_text())["servers"]["it"]
    digest = written.pop("digest")
    assert len(digest) == 32
    assert written == {
        "capability": "notes",
        "registry": "registry.yaml",
        "name": "x.example/notes",
        "version": "1.0",
        "starts": "python program.py",
        "is_given": [],
    }
    mark.unlink()
    lists(job, version="1.0", env={"X": "${A_SECRET}"})
    changed = rowtide("run", job, "--no-prefect", environment=given)
    assert changed.status == 2
    assert "is not what was allowed (x.example/notes 1.0, `python program.py`) any more" in changed.err
    assert "which is told the values of A_SECRET" in changed.err
    assert not mark.exists()


@pytest.mark.parametrize(("said", "status"), [("n", 2), ("y", 0)])
def test_who_is_at_a_terminal_is_asked(job: Path, tmp_path: Path, said: str, status: int) -> None:
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in NO_KEY}
    asking = subprocess.Popen(
        [sys.executable, "-m", "cli", "plan", str(job)],
        env={**environment, "PYTHONPATH": str(ROOT), "ROWTIDE_HOME": str(tmp_path / "home")},
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    seen = b""
    while b"[y/N]" not in seen:
        seen += os.read(ours, 4096)
    assert not (tmp_path / "mark").exists()
    os.write(ours, f"{said}\n".encode())
    with pytest.raises(OSError, match="Input/output"):
        while True:
            seen += os.read(ours, 4096)
    assert asking.wait(60) == status, seen
    assert (tmp_path / "mark").exists() is (job / LOCK_FILE).exists() is (status == 0)
    os.close(ours)


CHANGES: list[dict[str, Any]] = [
    {"version": "1.1"},
    {"name": "y.example/notes"},
    {"args": ["program.py", "--all"]},
    {"command": "sh"},
    {"env": {"X": "1"}},
    {"env": {"X": "${HOME}"}},
    {"read_only": ["write"]},
    {"capabilities": ["notes", "more"]},
    {"command": None, "args": [], "url": "https://x.example/mcp"},
    {"command": None, "args": [], "url": "https://x.example/mcp", "headers": {"A": "${A_SECRET}"}},
]


@pytest.mark.parametrize("change", CHANGES)
async def test_whatever_changes_of_an_entry_asks_anew(job: Path, change: dict[str, Any]) -> None:
    allow_servers(job, (await asked_of(job)).asked)
    assert await trusts(job)
    lists(job, **{"version": "1.0", **change})
    assert not await trusts(job)
    allow_servers(job, (await asked_of(job)).asked)
    assert await trusts(job), "what was asked for is what is allowed"


async def test_what_is_shown_of_an_entry_holds_nothing_that_a_terminal_obeys(job: Path) -> None:
    lists(job, args=["program.py", "\x1b[2K\rtrue", "a\nb", "\u202egnp.exe"], version="1\x1b]0;x\x07")
    words = str(await asked_of(job))
    assert words.isprintable(), words


async def trusts(job: Path) -> bool:
    try:
        await found(job)
    except NotTrusted:
        return False
    return True


async def asked_of(job: Path) -> NotTrusted:
    with pytest.raises(NotTrusted) as asked:
        await found(job)
    return asked.value


async def found(folder: Path, registry: str = "registry.yaml", capability: str = "notes") -> Any:
    specs = {"it": ToolServerSpec(capability=capability)}
    pinned = await resolve_servers(specs, registry=registry, folder=folder, environment=dict(os.environ))
    check_trusted(folder, {name: each.found for name, each in pinned.items() if each.found})
    return pinned["it"]


@contextmanager
def answering(
    status: int, headers: dict[str, str], body: bytes = b"", *, endless: bool = False
) -> Generator[tuple[str, list[str]]]:
    """A server that says this to whatever it is asked. Gives its URL, and the paths it was asked for."""
    asked: list[str] = []

    class Answers(Handler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                while self.wfile.write(body) and endless:
                    pass
            except OSError:
                pass

        do_POST = do_GET

    with listening(Answers) as url:
        yield url, asked


def listing(*names: str) -> bytes:
    packages = [{"registryType": "npm", "identifier": "@x/notes", "version": "1.0.0", "transport": {"type": "stdio"}}]
    servers = [{"server": {"name": name, "version": "1.0.0", "packages": packages}} for name in names]
    return orjson.dumps({"servers": servers, "metadata": {}})


@pytest.mark.parametrize("name", ["x.example/notes-and-more", "notes/x.example", "x.example/Notes", "x", "xnotes"])
async def test_a_hit_of_another_name_answers_for_no_capability(tmp_path: Path, name: str) -> None:
    with answering(200, {}, listing(name)) as (url, _), pytest.raises(UserMistake, match="no server .* named 'notes'"):
        await found(tmp_path, url)


async def test_a_server_of_a_registry_says_what_it_would_start_and_from_where(tmp_path: Path) -> None:
    with answering(200, {}, listing("x.example/notes", "x.example/notes-too")) as (url, _):
        words = str(await not_trusted(tmp_path, url))
    assert f"for 'notes', {url} lists x.example/notes 1.0.0, and nobody has allowed that yet" in words
    assert "it would start `npx -y @x/notes@1.0.0`" in words


async def not_trusted(folder: Path, registry: str) -> NotTrusted:
    with pytest.raises(NotTrusted) as asked:
        await found(folder, registry)
    return asked.value


async def test_a_registry_leads_to_no_other_host_and_down_to_no_plain_http(tmp_path: Path) -> None:
    with answering(200, {}, listing("x.example/notes")) as (other, asked):
        for to in (
            other,
            other.replace("127.0.0.1", "localhost"),
            "http://x.example/v0.1/servers",
            "https://127.0.0.1",
        ):
            with (
                answering(302, {"Location": to}) as (url, _),
                pytest.raises(UserMistake, match="it redirects to .*another"),
            ):
                await found(tmp_path, url)
    assert asked == []
    with (
        answering(302, {"Location": "/elsewhere"}) as (url, asked),
        pytest.raises(UserMistake, match="redirects more than 3 times"),
    ):
        await found(tmp_path, url)
    assert asked[1:] == ["/elsewhere"] * 3


@pytest.mark.parametrize(
    "registry",
    [
        "http://x.example",
        "http://10.0.0.1",
        "http://[::2]",
        "http://127.0.0.1.x.example",
        "ftp://x.example",
        "file:///x",
    ],
)
async def test_a_registry_is_asked_over_https_or_on_this_machine(tmp_path: Path, registry: str) -> None:
    with pytest.raises(UserMistake, match="asked over https://, or over http:// on this machine, or is a file"):
        await found(tmp_path, registry)


async def test_the_token_of_a_registry_stands_in_no_message_and_in_no_lock_file(tmp_path: Path) -> None:
    with answering(200, {}, listing("x.example/notes")) as (url, asked):
        for way in ("http://user:a-long-secret@{}/", "http://{}/?api_key=a-long-secret"):
            registry = way.format(url.removeprefix("http://"))
            refused = await not_trusted(tmp_path, registry)
            allow_servers(tmp_path, refused.asked)
            assert "a-long-secret" not in str(refused) + (tmp_path / LOCK_FILE).read_text()
            assert (await found(tmp_path, registry)).name == "x.example/notes"
            with pytest.raises(UserMistake) as mistake:
                await found(tmp_path, registry, "nothing")
            assert "a-long-secret" not in str(mistake.value)
    assert "api_key=a-long-secret" in asked[-1], "it was asked with it"


# What a server is told stays with it


SECRETS = ["s3cr-et/+va lue&of=mine", 'p\u00e4ssw\u00f6rt "quoted" \\ it', "abcdef", "AKIA0123456789ABCDEF"]

BASE64_WITHIN = {how for how in leaky.WAYS if "within" in how}  # of a short secret, too few letters are its own


def leaky_spec(folder: Path, **more: Any) -> ToolServerSpec:
    env = {"SECRET": "${SECRET_OF_OURS}", "CALLS": str(folder / "calls"), **more.pop("env", {})}
    told = {"command": "python", "args": ["-I", "-S", str(SERVERS / "leaky.py")], "env": env, "timeout_seconds": 20}
    return ToolServerSpec.model_validate({**told, **more})


def pool_of(folder: Path, secret: str = "a-long-secret", **more: Any) -> ToolPool:
    environment = {"PATH": os.environ["PATH"], "SECRET_OF_OURS": secret}
    return ToolPool({"it": leaky_spec(folder, **more)}, folder, environment, 5000)


@pytest.mark.parametrize("secret", SECRETS)
async def test_a_secret_that_a_server_tells_is_taken_out_wherever_it_stands(tmp_path: Path, secret: str) -> None:
    async with pool_of(tmp_path, secret) as tools:
        listed = await tools.catalogue()
        said = {how: await tools.call("it__say", {"how": how}) for how in leaky.WAYS}
        names = ("fail", "structured", "resource", "link", "noise", "stderr")
        said |= {name: await tools.call(f"it__{name}", {}) for name in names}
    told = {**{how: each.text for how, each in said.items()}, **{each.name: repr(each) for each in listed}}
    for how, text in told.items():
        hidden = [write(secret) for way, write in leaky.WAYS.items() if "within" not in way]
        assert not [each for each in hidden if each in text], f"{how}: {text}"
        assert secret.encode().hex() not in text.lower()
    told_apart = [how for how, each in said.items() if "${SECRET_OF_OURS}" in each.text]
    assert set(leaky.WAYS) - set(told_apart) <= (BASE64_WITHIN if len(secret) < 7 else set()), told
    assert said["plain"].text == "the secret is ${SECRET_OF_OURS}."


def test_what_is_no_secret_is_left_as_it_is() -> None:
    secrets = ServerSecrets("tools.it", {"TOKEN": "s3cret-token", "PIN": "12345", "HOME": "/far/away/there"})
    secrets.fill("${TOKEN} ${PIN} ${HOME}")
    secrets.fill("warning", name="LOG_LEVEL")
    secrets.fill("Bearer literal-token", name="Authorization")
    assert secrets.hide("12345 /far/away/there warning s3cret-token") == "12345 /far/away/there warning ${TOKEN}"
    assert secrets.hide("a literal-token") == "a [Authorization]"
    secrets.fill_url("https://me:pass%2Fword@x.example/mcp?access_token=qwertyuiop&page=123456789")
    assert (
        secrets.hide("pass/word pass%2Fword qwertyuiop 123456789") == "[password] [password] [access_token] 123456789"
    )


# One row's call costs that row


async def test_of_the_calls_that_a_server_died_under_only_the_one_that_ends_it_comes_to_nothing(tmp_path: Path) -> None:
    async with pool_of(tmp_path, concurrency=10) as tools:
        said = await tools.call_all([("it__crash", {"n": n}) for n in range(40)])
    wrong = {n: each.text for n, each in enumerate(said) if each.is_error}
    assert set(wrong) == {13, 17}
    for words in wrong.values():
        assert "it.crash was called twice with this, the second time alone, and ended its server each time" in words
    assert [each.text for n, each in enumerate(said) if n not in wrong] == [str(n) for n in range(40) if n not in wrong]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert (calls.count("13"), calls.count("17") in (1, 2)) == (2, True), "17 may have been sent and not been read"


async def test_a_write_on_the_wire_of_a_server_that_dies_is_not_made_again_and_says_so(tmp_path: Path) -> None:
    async with pool_of(tmp_path, allow=["write"], concurrency=10) as tools:
        written, crashed = await asyncio.gather(
            tools.call("it__write", {}, idempotency_key="1"), tools.call("it__crash", {"n": 13})
        )
    assert "it.write may have taken place, and is not called a second time" in written.text
    assert crashed.is_error
    assert (tmp_path / "calls").read_text().splitlines().count("write") == 1


# Nothing outlives whoever started it

FAMILY = """
import os, subprocess, sys, time
pids = open(sys.argv[1], "a")
def tell(): print(os.getpid(), file=pids, flush=True)
tell()
subprocess.Popen(["sleep", "1000"], start_new_session=True)
if os.fork() == 0:  # a daemon, as they are made
    os.setsid()
    if os.fork() == 0:
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tell(); print("ready", file=pids, flush=True)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        time.sleep(1000)
    os._exit(0)
exec(open(sys.argv[2]).read())
"""


def family(folder: Path) -> dict[str, Any]:
    """A server with a child in a session of its own, and a daemon that hears no SIGTERM and holds its stdout open."""
    (folder / "family.py").write_text(FAMILY)
    args = ["-I", "-S", str(folder / "family.py"), str(folder / "pids"), str(SERVERS / "leaky.py")]
    return {"command": "python", "args": args}


def alive(folder: Path) -> list[str]:
    """What still runs of a family: all that was started with this folder's name, and their `sleep`."""
    found: list[str] = []
    for status in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"FAMILY={folder}".encode() in status.read_bytes():
                found.append(status.parent.name)
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands a process the orphans below it")
async def test_a_servers_children_and_daemons_end_with_it(tmp_path: Path) -> None:
    async with pool_of(tmp_path, env={"FAMILY": str(tmp_path)}, **family(tmp_path)) as tools:
        assert (await tools.call("it__crash", {"n": 1})).text == "1"
        await asyncio.to_thread(wait_until, lambda: "ready" in (tmp_path / "pids").read_text())
        assert len(alive(tmp_path)) >= 4, "the guardian, the server, its child, its daemon"
        again = await tools.call("it__crash", {"n": 13})
        assert again.is_error
    assert alive(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands a process the orphans below it")
def test_a_command_that_is_killed_leaves_no_server_of_its_tools(tmp_path: Path) -> None:
    spec = leaky_spec(tmp_path, env={"FAMILY": str(tmp_path)}, **family(tmp_path)).model_dump(exclude_defaults=True)
    spec["env"]["SECRET"] = "none"
    spec["args"] = [*spec["args"][:-1], str(tmp_path / "silent.py")]  # it never answers, so the command waits for it
    (tmp_path / "silent.py").write_text("import time; time.sleep(1000)")
    job = make_job(tmp_path / "job", tools={"it": spec})
    running = subprocess.Popen(
        [sys.executable, "-m", "cli", "run", str(job), "--no-prefect"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "ROWTIDE_HOME": str(tmp_path / "home")},
        stderr=subprocess.DEVNULL,
    )
    pids = tmp_path / "pids"
    wait_until(lambda: pids.exists() and "ready" in pids.read_text())
    running.send_signal(signal.SIGKILL)
    running.wait()
    wait_until(lambda: not alive(tmp_path), within_seconds=30)
    assert re.findall(r"\d+", pids.read_text())
