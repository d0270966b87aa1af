"""Secrets stand in the environment and in what is sent: in no file, no database, nothing that is printed."""

import base64
import bz2
import gzip
import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import orjson
import psycopg
import pytest
from conftest import ANSWER, make_job, run, wait_until
from hypothesis import given
from hypothesis import strategies as st
from listening import Handler, listening
from outside import rowtide
from psycopg.sql import SQL, Identifier
from test_tools import start_remote

from cli.exits import unexpected_error_text
from cli.main import main
from deploy.prefect_server import SETTINGS, is_ready
from rowtide.agent.requests import batch_request, custom_id
from rowtide.api.secret_placeholders import CHUNK_BYTES, SealedBody, secret_placeholders
from rowtide.errors import RowtideError, UserMistake, WorldError
from rowtide.masking import mask_logs, register_secrets
from rowtide.tools.api_connector import fill_in_tokens

SERVERS = Path(__file__).parent / "servers"
TAG = "0123456789ab"
PRICE = "from pydantic import BaseModel\n\n\nclass Answer(BaseModel):\n    price: int\n"


def shared(url: str, token: str, system: str) -> bytes:
    server = {"type": "url", "name": "shop", "url": url, "authorization_token": token}
    return orjson.dumps({"system": system, "mcp_servers": [server]})[1:-1]


@given(
    st.dictionaries(st.sampled_from(["TOKEN", "A", "B_2"]), st.text(min_size=1), min_size=3),
    st.lists(st.text(max_size=80), min_size=1, max_size=5),
    st.integers(0, 3),
)
def test_a_body_on_disk_holds_marks_and_what_is_sent_of_it_holds_the_values(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], rows: list[str], pages: int
) -> None:
    part = shared("https://${A}/~.${B_2}~", "${TOKEN}", "say ${TOKEN}")
    rows = [
        row + "x" * (pages * CHUNK_BYTES // 2) for row in [*rows, "${TOKEN}", f"{TAG[:5]}.TOKEN..", '","mcp_servers"']
    ]

    def written(known: dict[str, str]) -> bytes:
        inner = fill_in_tokens(part, known)
        bodies = [b'{%b,"messages":%b}' % (inner, orjson.dumps(row)) for row in rows]
        return b'{"requests":[%b]}' % b",".join(batch_request(custom_id(TAG, n), each) for n, each in enumerate(bodies))

    file = tmp_path_factory.mktemp("spool") / "body.json"
    file.write_bytes(written(secret_placeholders(TAG, environment)))
    body = SealedBody(file, TAG, environment)
    sent = b"".join(body.chunks())
    assert orjson.loads(sent) == orjson.loads(written(environment))
    assert body.length == len(sent)
    assert len(sent) <= file.stat().st_size


def test_a_body_that_lies_on_disk_for_nobody_knows_how_long_holds_no_token_of_the_connector(
    api: Any, faults: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A POST whose answer is lost leaves its body in the spool until it is known what became of it."""
    monkeypatch.setenv("SHOP_TOKEN", "open-sesame-4711")
    process, port = start_remote(0, "open-sesame-4711")
    server = {"url": f"http://127.0.0.1:{port}/mcp", "headers": {"Authorization": "Bearer ${SHOP_TOKEN}"}}
    job = make_job(
        tmp_path / "job",
        rows="id,item\nm1,lamp\nm2,window\n",
        answer=PRICE,
        prompt="Find the price.\n---\nitem: {{ item }}\n",
        tiers=["opus"],
        tools={"shop": {**server, "placement": "connector", "tools": ["find_price"]}},
    )
    faults({"call": "create", "nth": 1, "do": {"drop": "after"}}, {"call": "list", "do": {"lag_seconds": 0.5}})
    lying = list[bytes]()

    def look(_: str) -> None:
        lying.extend(file.read_bytes() for file in (tmp_path / "home" / "spool").rglob("*.requests.json"))

    try:
        found = run(job, on_stage=look)
    finally:
        process.kill()
    assert found["loaded"] == 2
    assert any(b"SHOP_TOKEN" in each for each in lying)
    assert not [each for each in lying if b"sesame" in each]


# What is planted: one of each kind that the product is given


PLANTED = {
    "API key": "ANTHROPIC_API_KEY",
    "API key of a mistaken run": "WRONG_API_KEY",
    "secret of webhooks": "ROWTIDE_WEBHOOK_SECRETS",
    "password of a source": "SOURCE_PASSWORD",
    "password of a sink": "SINK_PASSWORD",
    "password of a ledger": "LEDGER_PASSWORD",
    "environment of a tool server": "DESK_SECRET",
    "bearer token of a tool server": "SHOP_TOKEN",
    "token of the connector": "CONNECTOR_TOKEN",
    "token of a registry": "REGISTRY_TOKEN",
    "password of a proxy": "PROXY_PASSWORD",
    "login of Prefect": "PREFECT_LOGIN",
    "header of the span exporter": "OTLP_TOKEN",
    "password that job code prints": "BILLING_PASSWORD",
}
KEYS = {"ANTHROPIC_API_KEY": "sk-ant-api03-", "WRONG_API_KEY": "sk-ant-api03-"}


def secret(name: str) -> str:
    """One that nobody else has; a slash and a plus, as base64 has them, show who forgets how it may be written."""
    if name == "ROWTIDE_WEBHOOK_SECRETS":
        return f"whsec_{base64.b64encode(secrets.token_bytes(30)).decode()}"
    return f"{KEYS.get(name, '')}Pl4nted/{name.lower()}+{secrets.token_hex(6)}"


def spellings(value: str) -> Iterator[bytes]:
    """How a secret may be written by whoever writes it down."""
    body = value.removeprefix("whsec_")
    for raw in (value, body):
        yield from (raw.encode(), quote(raw, safe="").encode(), quote(raw).encode(), raw.encode().hex().encode())
        yield raw.encode("utf-16-le")
        for before in range(3):
            encoded = base64.b64encode(bytes(before) + raw.encode())
            yield encoded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]


def unpacked(content: bytes) -> Iterator[bytes]:
    """The bytes, and what they come to where they are compressed."""
    yield content
    for start, module in ((b"\x1f\x8b\x08", gzip), (b"BZh", bz2), (b"\x78\x9c", zlib)):
        if content.startswith(start):
            yield module.decompress(content)


@dataclass
class World:
    """A home, what was printed, and the secrets that were given."""

    folder: Path
    given: dict[str, str]
    printed: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def found(self, more: Mapping[str, bytes]) -> list[str]:
        """Where which secret stands: in a file under the home, in what was printed, in `more`."""
        texts = {**{name: text.encode() for name, text in self.printed.items()}, **more}
        texts |= {str(file): file.read_bytes() for file in sorted(self.home.rglob("*")) if file.is_file()}
        wanted = {kind: set(spellings(self.given[name])) for kind, name in PLANTED.items()}
        return [
            f"{kind} in {place}: {content[max(0, content.find(each) - 80) :][:200]!r}"
            for place, packed in texts.items()
            for content in unpacked(packed)
            for kind, ways in wanted.items()
            for each in ways
            if each in content
        ]

    def open_to_others(self) -> list[str]:
        """Files and folders of the home that others may read, write or enter."""
        return [f"{each.stat().st_mode & 0o777:o} {each}" for each in self.tree() if each.stat().st_mode & 0o077]

    def tree(self) -> list[Path]:
        return [self.home, *sorted(self.home.rglob("*"))]

    def rowtide(self, what: str, *words: str | Path, umask: int = 0, changes: Mapping[str, str]) -> int:
        """The command, with all that is planted in its environment, and an umask that protects nothing."""
        environment: dict[str, str | None] = {**self.given, "ROWTIDE_HOME": str(self.home), **changes}
        before = os.umask(umask)
        try:
            done = rowtide(*words, environment=environment, folder=self.folder)
        finally:
            os.umask(before)
        self.printed[what] = f"{done.out}\n{done.err}"
        return done.status

    def main(self, what: str, patch: pytest.MonkeyPatch, capfd: Any, *words: str | Path, **changes: str) -> None:
        """The same in this process, which takes no seconds to begin."""
        given = {**self.given, "ROWTIDE_HOME": str(self.home), **changes}
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        mask = os.umask(0)
        with patch.context() as here, pytest.raises(SystemExit):
            for name, value in given.items():
                here.setenv(name, value)
            here.chdir(self.folder)
            here.setattr(sys, "argv", ["rowtide", *map(str, words)])
            here.setattr(sys, "excepthook", sys.excepthook)
            main()
        os.umask(mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        printed = capfd.readouterr()
        self.printed[what] = f"{printed.out}\n{printed.err}"


LEAKY_CHECK = """

def check_bill(answer: Answer, row: dict) -> str | None:
    if "bill" in row["message"]:
        raise ConnectionError(f"no login at https://me:{os.environ['BILLING_PASSWORD']}@bill.example as "
                              f"{os.environ['BILLING_PASSWORD']}")
    return None
"""
OBEY = "the parcel is late [emulator:obey] call desk__{} with {}"
ROWS = {
    "plain": OBEY.format("say", '{"how": "plain"}'),
    "base64": OBEY.format("say", '{"how": "base64 within"}'),
    "fails": OBEY.format("fail", "{}"),
    "stderr": OBEY.format("stderr", "{}"),
    "bill": "the bill of the parcel",
    "good": "the parcel is late",
}


class Echo(Handler):
    """Refuses whatever it is asked, and says all that it was told: head, path and body."""

    def do_GET(self) -> None:
        told = f"{self.headers.get('x-api-key')} is no key\n{self.path}\n{self.headers}".encode()
        body = orjson.dumps({"type": "error", "error": {"type": "authentication_error", "message": told.decode()}})
        self.send_response(401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_CONNECT = do_GET


@pytest.fixture
def world(tmp_path: Path, postgres_url: str, api: Any) -> Iterator[World]:
    given = {name: secret(name) for name in PLANTED.values()}
    with psycopg.connect(plain_url(postgres_url), autocommit=True) as database:
        database.execute("CREATE TABLE message (id text, message text)")
        for key, message in ROWS.items():
            database.execute("INSERT INTO message VALUES (%s, %s)", (key, message))
    yield World(tmp_path, given)


def plain_url(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")


def with_password(url: str, name: str) -> str:
    return plain_url(url).replace("postgres@", f"postgres:${{{name}}}@")


DESK = {
    "desk": {
        "command": "python",
        "args": ["-I", "-S", str(SERVERS / "leaky.py")],
        "env": {"SECRET": "${DESK_SECRET}"},
        "timeout_seconds": 5,
    }
}
PRINTS = {"it": {"command": "python", "args": [str(SERVERS / "talkative.py")], "env": {"SECRET": "${DESK_SECRET}"}}}
ASKS = {"it": {"capability": "notes"}}


def sql(url: str) -> dict[str, str]:
    return {"kind": "sql", "url": url, "table": "answers"}


def query(url: str) -> dict[str, str]:
    return {"url": url, "query": "SELECT * FROM message"}


def planted_job(world: World, postgres_url: str, name: str = "sorting", **more: Any) -> Path:
    said: dict[str, Any] = {
        "source": query(with_password(postgres_url, "SOURCE_PASSWORD")),
        "sink": {**sql(with_password(postgres_url, "SINK_PASSWORD")), "table": name},
        "tiers": ["opus"],
        **more,
    }
    return make_job(world.folder / "jobs" / name, answer=f"import os\n{ANSWER}{LEAKY_CHECK}", **said)


def dumped(postgres_url: str) -> dict[str, bytes]:
    """Every table of a database, as text."""
    with psycopg.connect(plain_url(postgres_url)) as database:
        names = database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        tables = {str(name): Identifier(str(name)) for (name,) in names}
        return {
            f"table {name}": repr(database.execute(SQL("SELECT * FROM {}").format(table)).fetchall()).encode()
            for name, table in tables.items()
        }


@contextmanager
def remote_servers(world: World) -> Generator[tuple[str, str]]:
    """Two servers over HTTP, each of which listens to its own token only."""
    started = [start_remote(0, world.given[name]) for name in ("SHOP_TOKEN", "CONNECTOR_TOKEN")]
    try:
        shop, market = (f"http://127.0.0.1:{port}/mcp" for _, port in started)
        yield shop, market
    finally:
        for process, _ in started:
            process.kill()
            process.communicate()


def report_of(world: World) -> str:
    """What was planted and looked for, and the permissions of all that was written, alike paths told once."""
    kinds = "\n".join(f"  {kind} ({name})" for kind, name in PLANTED.items())
    modes = Counter(
        f"{each.stat().st_mode & 0o777:04o} {re.sub('[0-9a-f]{6,}|[0-9]+', '#', str(each.relative_to(world.folder)))}"
        for each in world.tree()
    )
    return f"planted:\n{kinds}\npermissions:\n" + "\n".join(f"  {mode}" for mode in sorted(modes))


@contextmanager
def server_of_prefect(world: World) -> Generator[dict[str, str]]:
    """Prefect's server as `make serve` runs it: its database, its log and its settings are under the home."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    login = f"rowtide:{world.given['PREFECT_LOGIN']}"
    url = f"http://127.0.0.1:{port}/api"
    known = {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(world.home / "prefect"),
        "PREFECT_API_AUTH_STRING": login,
        "PREFECT_SERVER_API_AUTH_STRING": login,
        "PREFECT_LOGGING_TO_API_ENABLED": "true",  # as a worker's flow runs have it
        "PREFECT_LOGGING_LEVEL": "INFO",
    }
    (world.home / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with os.fdopen(os.open(world.home / "logs" / "server.log", os.O_CREAT | os.O_WRONLY, 0o600), "wb") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **SETTINGS, **known},
            stdout=log,
            stderr=log,
            umask=0o077,
            start_new_session=True,
        )
    try:
        wait_until(lambda: is_ready(url))
        yield known
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


@pytest.mark.slow
def test_of_the_secrets_that_are_planted_none_is_found_after_good_and_failed_runs(
    world: World, postgres_url: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole home, Prefect's database and logs, ledgers, sinks, and all that was printed; and who may read it."""
    given = {name: quote(value, safe="") for name, value in world.given.items()}
    nobody = "postgresql://me:${%s}@127.0.0.1:1/nothing"
    with listening(Echo) as echo, server_of_prefect(world) as prefect, remote_servers(world) as (shop, market):
        spans = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": echo,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{given['OTLP_TOKEN']}",
        }
        tools = {
            **DESK,
            "shop": {"url": shop, "headers": {"Authorization": "Bearer ${SHOP_TOKEN}"}, "tools": ["find_price"]},
            "market": {
                "url": market,
                "headers": {"Authorization": "Bearer ${CONNECTOR_TOKEN}"},
                "placement": "connector",
                "tools": ["find_price"],
            },
        }
        good = planted_job(world, postgres_url, tools=tools)
        world.rowtide("a good run", "run", good, "--no-prefect", changes=spans)
        flow = planted_job(world, postgres_url, "flow", tools=DESK)
        world.rowtide("a flow", "run", flow, "--lane", "live", umask=0o22, changes=prefect)
        in_this_process = {
            "a wrong key": (flow, {"ANTHROPIC_API_KEY": world.given["WRONG_API_KEY"], "ANTHROPIC_BASE_URL": echo}),
            "no sink": (planted_job(world, postgres_url, "nosink", sink=sql(nobody % "SINK_PASSWORD")), {}),
            "no source": (planted_job(world, postgres_url, "nosource", source=query(nobody % "SOURCE_PASSWORD")), {}),
            "a server that prints": (planted_job(world, postgres_url, "prints", tools=PRINTS), {}),
            "a registry that says no": (
                planted_job(world, postgres_url, "asks", tools=ASKS, registry=f"{echo}/?api_key=${{REGISTRY_TOKEN}}"),
                {},
            ),
            "no ledger": (flow, {"ROWTIDE_LEDGER": f"postgresql://me:{given['LEDGER_PASSWORD']}@127.0.0.1:1/x"}),
        }
        for what, (job, changes) in in_this_process.items():
            world.main(what, monkeypatch, capfd, "run", job, "--no-prefect", **changes)
        world.main("no secret of webhooks", monkeypatch, capfd, "serve", ROWTIDE_WEBHOOK_SECRETS="whsec_short")
        world.main("show", monkeypatch, capfd, "show", "plain")
        world.main("quarantine", monkeypatch, capfd, "quarantine", "list")
        proxy = f"http://me:{given['PROXY_PASSWORD']}@{echo.removeprefix('http://')}"
        through = planted_job(world, postgres_url, "proxy", tools={})
        with monkeypatch.context() as patch, pytest.raises(RowtideError) as refused:
            for name, value in {
                **world.given,
                "HTTPS_PROXY": proxy,
                "ANTHROPIC_BASE_URL": "https://api.example",
            }.items():
                patch.setenv(name, value)
            run(through)
        world.printed["a proxy that refuses"] = f"{refused.value!r}{refused.value.__cause__!r}"
    with capfd.disabled():
        print(report_of(world))  # noqa: T201 # the list of permissions, for whoever reads it
    found = world.found(dumped(postgres_url))
    assert not found, "\n".join(found)
    assert not world.open_to_others()


def test_what_this_process_was_given_is_taken_out_of_errors_logs_and_tracebacks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = {
        "SOME_API_KEY": "Pl4nted-in-a-key",
        "DATABASE_URL": "postgresql://me:Pl4nted%2Fin-a-url@host/db?sslpassword=Pl4nted-in-a-query",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=me,authorization=Bearer%20Pl4nted-in-a-header",
        "PREFECT_API_AUTH_STRING": "admin:Pl4nted-in-a-login",
        "ROWTIDE_WEBHOOK_SECRETS": "sorting=whsec_Pl4ntedInAHook whsec_Pl4ntedInAnother",
        "ROWTIDE_ON_CALL_URL": "https://hooks.example/T0/B0/Pl4nted-in-a-path",
        "AUTHOR_NAME": "Jane Austen, of Hampshire",
        "MAX_OUTPUT_TOKENS": "128000",
        "PWD": "/where/we/are/now",
    }
    register_secrets(given)
    register_secrets({"ROWTIDE_TOOL_SHOP_ENV_WORD": "Pl4nted-in-a-block"}, are_secret=True)
    told = [*given.values(), unquote(str(given)), base64.b64encode(b"admin:Pl4nted-in-a-login").decode()]
    told += ["Basic cHw6UGw0bnRlZC1pbi1hLWxvZ2lu", "https://somebody:Pl4nted-by-hand@x.example", "Pl4nted-in-a-block"]
    before = logging.getLogRecordFactory()
    mask_logs()
    mask_logs()
    try:
        for words in told:
            mistake = UserMistake(f"it says {words}", file=words)
            try:
                raise ValueError(words)
            except ValueError as error:
                logging.getLogger("somebody").exception("failed: %s", words)
                unexpected_error_text(error, tmp_path, None, now=datetime.now(UTC))
            caplog.handler.stream.write(f"{mistake} {mistake.what} {WorldError(words)}")
    finally:
        logging.setLogRecordFactory(before)
    written = caplog.text + "".join(file.read_text() for file in tmp_path.rglob("*.txt"))
    assert "Pl4nted" not in written
    for plain in ("Jane Austen, of Hampshire", "128000", "/where/we/are/now", "[SOME_API_KEY]", "host/db"):
        assert plain in written
