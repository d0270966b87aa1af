"""What a command finds where it is started: proxies, certificates, homes, streams, and servers that are none."""

import asyncio
import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import certifi
import pytest
from conftest import make_job
from listening import Handler, listening
from outside import ROOT, rowtide
from test_world_account import api, emulator  # noqa: F401 # fixtures

from cli import prefect_server
from cli.environment_checks import (
    check_certificates,
    check_home,
    check_proxies,
    exempt_localhost_from_proxies,
    explain_environment_error,
)
from rowtide.api.claude import Claude
from rowtide.errors import UserMistake

PROXIES = [
    ({"HTTP_PROXY": "http://127.0.0.1:9"}, None),
    ({"https_proxy": "proxy.example:3128"}, None),
    ({"ALL_PROXY": ""}, None),
    ({"ALL_PROXY": "ftp://proxy:21"}, "ALL_PROXY"),
    ({"HTTPS_PROXY": "http://proxy:port"}, "HTTPS_PROXY"),
    ({"HTTP_PROXY": "http://"}, "HTTP_PROXY"),
    ({"all_proxy": "socks5://127.0.0.1:1080"}, "all_proxy"),
    ({"ALL_PROXY": "SOCKS5H://u:secret@127.0.0.1:1080"}, "ALL_PROXY"),
    ({"ALL_PROXY": "socks4://127.0.0.1:1080"}, "ALL_PROXY"),
    ({"ALL_PROXY": "socks4://127.0.0.1:1080", "NO_PROXY": "*"}, None),
]


@pytest.mark.parametrize(("environment", "named"), PROXIES)
def test_a_proxy_that_no_client_can_speak_to_is_refused_by_its_variable(
    environment: dict[str, str], named: str | None
) -> None:
    if named is None:
        check_proxies(environment)
        return
    with pytest.raises(UserMistake, match=f"^{named}: ") as refused:
        check_proxies(environment)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("no_proxy", [None, "", "example.com"])
def test_this_machine_is_reached_whatever_proxy_is_named(
    name: str,
    no_proxy: str | None,
    api: Any,  # noqa: F811 # a fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        environment = {name: f"http://127.0.0.1:{nobody.getsockname()[1]}", "ANTHROPIC_BASE_URL": api.url}
        if no_proxy is not None:
            environment["NO_PROXY"] = no_proxy
        exempt_localhost_from_proxies(environment)
        for key, value in environment.items():
            monkeypatch.setenv(key, value)

        async def answers() -> bool:
            async with Claude("key", api.url) as claude:
                return await claude.is_emulator()

        assert asyncio.run(answers())
        assert set(filter(None, (no_proxy or "").split(","))) <= set(environment["NO_PROXY"].split(","))


def test_an_address_of_this_machine_that_is_named_is_not_behind_a_proxy_either() -> None:
    environment = {"HTTP_PROXY": "http://p:1", "ANTHROPIC_BASE_URL": "http://127.0.0.2:80", "PREFECT_API_URL": "x"}
    exempt_localhost_from_proxies(environment)
    assert environment["no_proxy"].split(",") == ["localhost", "127.0.0.1", "::1", "127.0.0.2"]
    without: dict[str, str] = {"ANTHROPIC_BASE_URL": "http://127.0.0.2:80"}
    exempt_localhost_from_proxies(without)
    assert "NO_PROXY" not in without


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("kind", ["missing", "text", "empty", "bytes"])
def test_certificates_that_are_none_are_refused_by_their_variable(name: str, kind: str, tmp_path: Path) -> None:
    file = tmp_path / "certificates.pem"
    if kind != "missing":
        file.write_bytes({"text": b"certificates\n", "empty": b"", "bytes": b"\xff\xfe\0"}[kind])
    with pytest.raises(UserMistake, match=f"^{name}: .*certificates.pem"):
        check_certificates({name: str(file)})


def test_certificates_that_are_some_are_taken(tmp_path: Path) -> None:
    folders = {"SSL_CERT_DIR": f"{tmp_path}:{tmp_path}", "REQUESTS_CA_BUNDLE": str(tmp_path)}
    check_certificates({"SSL_CERT_FILE": certifi.where(), "CURL_CA_BUNDLE": "", **folders})


def test_certificates_are_looked_at_before_anything_opens_them() -> None:
    done = rowtide("run", "jobs/companies", environment={"SSL_CERT_FILE": "/nowhere.pem"})
    assert (done.status, done.out) == (2, "")
    assert (
        done.err.strip() == "rowtide: SSL_CERT_FILE: /nowhere.pem: No such file or directory; unset it, or set it right"
    )


def test_a_home_in_which_nothing_can_be_kept_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/home"), Path("/dev/null")):
        with pytest.raises(UserMistake, match=f"^ROWTIDE_HOME: {home} cannot be written"):
            check_home(home)
    check_home(tmp_path / "new" / "home")
    assert list((tmp_path / "new" / "home").iterdir()) == []


SMALL = "mount -t tmpfs -o size={size} none {home} && exec {command}"


def test_a_disk_that_is_full_is_told_in_a_sentence(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    command = f"{sys.executable} -m cli run {make_job(tmp_path / 'job', rows=4)}"
    script = SMALL.format(size="16k", home=home, command=command)
    if subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("this machine lets nobody mount a file system of its own (unshare -rm)")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ROWTIDE_HOME": str(home), "ROWTIDE_PREFECT_PORT": "0"}
    words = ["unshare", "-rm", "sh", "-c", script]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "ROWTIDE_HOME" in done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_of_the_surroundings_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    full = OSError(28, "No space left on device")
    assert "No space left" in (explain_environment_error(full, tmp_path) or "")
    assert explain_environment_error(ValueError("odd"), tmp_path) is None
    assert "HOME" in (explain_environment_error(RuntimeError("Could not determine home directory."), tmp_path) or "")
    Path(".env").write_bytes(b"A=\xff\n")
    assert str(tmp_path / ".env") in (
        explain_environment_error(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "odd"), tmp_path) or ""
    )
    Path(".env").unlink()
    Path("pyproject.toml").write_text("[tool")
    assert "pyproject.toml" in (explain_environment_error(tomllib.TOMLDecodeError("odd"), tmp_path) or "")


STREAMS: dict[str, str] = {
    "head": "{rowtide} --help | head -1",
    "stdout full": "{rowtide} --help > /dev/full",
    "stdout closed": "{rowtide} runs >&-",
    "all closed": "{rowtide} runs >&- 2>&- <&-",
    "ascii": "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 PYTHONIOENCODING=ascii {rowtide} run --help",
    "no width": "COLUMNS=0 {rowtide} --help",
    "odd width": "COLUMNS=-3 {rowtide} --help",
    "odd language": "LANG=xx_YY.odd LC_ALL=xx_YY.odd {rowtide} --help",
    "no TMPDIR": "TMPDIR=/nowhere {rowtide} --help",
}


def test_whatever_streams_and_words_a_command_is_given_it_shows_no_traceback(tmp_path: Path) -> None:
    def tried(script: str) -> str:
        text = script.format(rowtide=f"{sys.executable} -m cli")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "ROWTIDE_HOME": str(tmp_path)}
        done = subprocess.run(["sh", "-c", text], env=environment, capture_output=True, text=True, check=False)
        return done.stderr

    with ThreadPoolExecutor(2) as pool:
        said = dict(zip(STREAMS, pool.map(tried, STREAMS.values()), strict=True))
    assert {name: words for name, words in said.items() if "Traceback" in words or "Exception ignored" in words} == {}


def test_two_runs_on_one_new_home_at_once_both_end_well(
    api: Any,  # noqa: F811 # a fixture
    tmp_path: Path,
) -> None:
    job = make_job(tmp_path / "job", rows=2)
    with ThreadPoolExecutor(2) as pool:
        begun = [pool.submit(rowtide, "run", job, "--json", "--lane", "live") for _ in range(2)]
        done = [each.result() for each in begun]
    assert [each.status for each in done] == [0, 0]
    assert sum(each.summary["loaded"] + each.summary["unchanged"] for each in done) >= 2


Answers = Mapping[str, tuple[int, str]]  # path → status, body
Serve = Callable[[Answers], str]


@pytest.fixture
def serve() -> Generator[Serve]:
    """A server that answers as it is told. Gives its URL."""
    with ExitStack() as stack:
        yield lambda answers: f"{stack.enter_context(listening(_as_told(answers)))}/api"


def _as_told(answers: Answers) -> type[Handler]:
    class Told(Handler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, "not found"))
            if self.headers.get("Authorization") == "Basic dTpw" and status == 401:
                status, body = 200, answers[f"{self.path} login"][1]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

    return Told


GOOD = version("prefect")
HEALTH, VERSION = "/api/health", "/api/admin/version"
SERVERS: list[tuple[Answers, str]] = [
    ({}, "is no Prefect server"),
    ({HEALTH: (200, "<html>hello</html>"), VERSION: (200, "<html>")}, "is no Prefect server"),
    ({HEALTH: (200, "true")}, "is no Prefect server"),
    ({HEALTH: (200, "true"), VERSION: (200, '"2.20.4"')}, "is 2.20.4, and the client here is"),
    ({HEALTH: (200, "true"), VERSION: (200, '"3.0.0"')}, "is 3.0.0, and the client here is"),
    ({HEALTH: (200, "true"), VERSION: (200, '"4.0.0"')}, "is 4.0.0, and the client here is"),
    ({HEALTH: (200, "true"), VERSION: (200, "odd")}, "and the client here is"),
    ({HEALTH: (401, ""), VERSION: (401, "")}, "asks for a login: set PREFECT_API_AUTH_STRING"),
    ({HEALTH: (200, "true"), VERSION: (403, "")}, "asks for a login: set PREFECT_API_AUTH_STRING"),
    ({HEALTH: (500, "oh")}, "is no Prefect server"),
]


@pytest.mark.parametrize(("answers", "words"), SERVERS)
def test_what_is_no_prefect_server_that_fits_is_refused_by_the_variable_that_names_it(
    answers: Answers, words: str, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_URL", serve(answers))
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    with pytest.raises(UserMistake, match=words) as refused:
        prefect_server.find_server_url()
    assert "(PREFECT_API_URL)" in str(refused.value)
    assert "--no-prefect" in str(refused.value)


def test_a_prefect_server_that_fits_is_taken_with_its_login_and_behind_a_proxy_variable(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "u:p")
    closed = {HEALTH: (401, ""), f"{HEALTH} login": (200, "true"), VERSION: (401, ""), f"{VERSION} login": (200, GOOD)}
    for answers in ({HEALTH: (200, "true"), VERSION: (200, f'"{GOOD}"')}, closed):
        monkeypatch.setenv("PREFECT_API_URL", url := serve(answers))
        assert prefect_server.find_server_url() == url


@pytest.mark.parametrize("url", ["127.0.0.1:4200", "ftp://h/api", "http://", "http://h:port/api", "x"])
def test_what_is_no_address_of_a_prefect_server_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    with pytest.raises(UserMistake, match="^PREFECT_API_URL is"):
        prefect_server.find_server_url()
