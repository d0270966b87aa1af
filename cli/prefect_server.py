"""Find the Prefect server a run goes through, and its login, without importing Prefect."""

import base64
import os
import socket
import tomllib
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPException
from importlib.metadata import version
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener, getproxies, proxy_bypass

from cli.home_folders import home_folder
from rowtide.environment_numbers import number_from_environment
from rowtide.errors import RowtideError, UserMistake

LOGIN = "PREFECT_API_AUTH_STRING"
LOGIN_FILE = "prefect.login"  # in the home of whoever ran `make serve`
KEY = "PREFECT_API_KEY"
CLOUD = "prefect.cloud"  # a service that keeps its clients' versions
ANSWER_SECONDS = 0.5  # for one that may run on this machine; a run does not begin later for one that hangs
CONNECT_SECONDS = 5.0  # for one that is named
PORTS = {"http": 80, "https": 443}
WITHOUT = "or run without it: --no-prefect"


class PrefectFailed(RowtideError):
    """Prefect's server failed while a run went through it."""


def find_server_url() -> str | None:
    """Return the URL of the server that is named, or of one running on this machine. Raises UserMistake.

    PREFECT_API_URL names it, else the active profile. `make serve`, and `prefect server start`, run one here; one whose
    login is not known here is somebody else's.
    """
    for who, url in (
        ("PREFECT_API_URL", os.environ.get("PREFECT_API_URL")),
        ("the active Prefect profile", _profile().get("PREFECT_API_URL")),
    ):
        if url:
            _check(url.rstrip("/"), who)
            return url
    port = number_from_environment(os.environ, "ROWTIDE_PREFECT_PORT", 4200, least=0, most=65_535)
    here = f"http://127.0.0.1:{port:.0f}/api"
    return here if _is_prefect(here) else None


def configured_server_url() -> str | None:
    """Return the server's URL that the environment names, else the active profile's; the server is not contacted."""
    return os.environ.get("PREFECT_API_URL") or _profile().get("PREFECT_API_URL")


def find_login() -> str | None:
    """Return USER:PASSWORD from the environment or the profile; else that of this home's `make serve`, if
    it ever ran.
    """
    if body := os.environ.get(LOGIN) or _profile().get(LOGIN):
        return body
    file = home_folder() / LOGIN_FILE
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def _profile() -> Mapping[str, str]:
    """The settings of the active profile, as Prefect reads them."""
    folder = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    file = Path(os.environ.get("PREFECT_PROFILES_PATH") or folder / "profiles.toml")
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserMistake(f"Prefect's profiles cannot be read: {error}", file=file) from error
    name = os.environ.get("PREFECT_PROFILE") or found.get("active")
    return found.get("profiles", {}).get(name, {})


def _check(url: str, who: str) -> None:
    """Raise UserMistake unless a Prefect server of a fitting version answers: Prefect's client would retry for minutes.

    Behind a proxy, or in Prefect's cloud, only Prefect can tell.
    """
    host, port = _address(url, who)
    if host.endswith(CLOUD) or (urlsplit(url).scheme in getproxies() and not proxy_bypass(host)):
        return
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
        status, body = _ask(f"{url}/health", CONNECT_SECONDS)
        known, server = _ask(f"{url}/admin/version", CONNECT_SECONDS)
    except (OSError, HTTPException, ValueError) as error:
        words = f"no Prefect server answers at {url} ({who}): {error}; start it, {WITHOUT}"
        raise UserMistake(words) from error
    refused = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    if status in refused or known in refused:
        asks = f"does not take the login of {LOGIN}" if find_login() else f"asks for a login: set {LOGIN}=USER:PASSWORD"
        raise UserMistake(f"the Prefect server at {url} ({who}) {asks}, {WITHOUT}")
    if (status, known) != (HTTPStatus.OK, HTTPStatus.OK) or body != b"true":
        hint = "" if url.endswith("/api") else f"; Prefect's own ends in /api: {url}/api"
        raise UserMistake(f"what answers at {url} ({who}) is no Prefect server{hint}; set it right, {WITHOUT}")
    _check_version(server.decode(errors="replace").strip('" \n'), url, who)


def _address(url: str, who: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme)
    except ValueError:
        parts, port = urlsplit(""), None
    if port is None or not parts.hostname:
        raise UserMistake(f"{who} is {url!r}, which is no address of a server, as http://127.0.0.1:4200/api is")
    return parts.hostname, port


def _check_version(server: str, url: str, who: str) -> None:
    """Raise UserMistake for a client that is newer than its server, or of another major version."""
    own = version("prefect")
    theirs, ours = _numbers(server), _numbers(own)
    if theirs[:1] != ours[:1] or theirs < ours:
        words = f"the Prefect server at {url} ({who}) is {server[:40] or 'of no version'}, and the client here is {own}"
        raise UserMistake(f"{words}: run a server that is not older, and of the same major version, {WITHOUT}")


def _numbers(body: str) -> tuple[int, ...]:
    """Major and minor."""
    return tuple(int(each) for each in body.split(".")[:2] if each.isdigit())


def _is_prefect(url: str) -> bool:
    try:
        if _ask(f"{url}/health", ANSWER_SECONDS) != (HTTPStatus.OK, b"true"):
            return False
        return _ask(f"{url}/admin/version", ANSWER_SECONDS)[0] == HTTPStatus.OK
    except (OSError, HTTPException, ValueError):
        return False


def _ask(url: str, seconds: float) -> tuple[int, bytes]:
    """The response at an address, never through a proxy: (status, the first bytes)."""
    known: dict[str, str] = {}
    if word := find_login():
        known["Authorization"] = f"Basic {base64.b64encode(word.encode()).decode()}"
    elif key := os.environ.get(KEY) or _profile().get(KEY):
        known["Authorization"] = f"Bearer {key}"
    try:
        with build_opener(ProxyHandler({})).open(Request(url, headers=known), timeout=seconds) as answer:
            return answer.status, answer.read(64)
    except HTTPError as error:
        return error.code, b""
