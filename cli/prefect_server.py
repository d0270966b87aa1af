"""Which Prefect server a run goes through, if any, and its login: found without importing Prefect, never waited for."""

import base64
import os
import socket
import tomllib
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from cli.homes import home
from rowtide.environment import number_in
from rowtide.errors import UserMistake

LOGIN = "PREFECT_API_AUTH_STRING"
LOGIN_FILE = "prefect.login"  # in the home of whoever ran `make serve`
ANSWER_SECONDS = 0.5  # for one that may run on this machine; a run does not begin later for one that hangs
CONNECT_SECONDS = 5.0  # for one that is named
PORTS = {"http": 80, "https": 443}


def server_url() -> str | None:
    """The URL of the server that is named, or of one that runs on this machine. Raises UserMistake.

    PREFECT_API_URL names it, else the active profile. `make serve`, and `prefect server start`, run one here; one whose
    login is not known here is somebody else's.
    """
    for who, url in (
        ("PREFECT_API_URL", os.environ.get("PREFECT_API_URL")),
        ("the active Prefect profile", _profile()),
    ):
        if url:
            _check(url, who)
            return url
    here = f"127.0.0.1:{number_in(os.environ, 'ROWTIDE_PREFECT_PORT', 4200, least=0, most=65_535):.0f}"
    return f"http://{here}/api" if _is_prefect(here) else None


def login() -> str | None:
    """USER:PASSWORD, as the environment says; else that of this home's `make serve`, if it ever ran."""
    if said := os.environ.get(LOGIN):
        return said
    file = home() / LOGIN_FILE
    return file.read_text().strip() if file.is_file() else None


def _profile() -> str | None:
    """What the profile in use says, as Prefect reads it."""
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    file = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        found = tomllib.loads(file.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserMistake(f"Prefect's profiles cannot be read: {error}", file=file) from error
    name = os.environ.get("PREFECT_PROFILE") or found.get("active")
    return found.get("profiles", {}).get(name, {}).get("PREFECT_API_URL")


def _check(url: str, who: str) -> None:
    """Somebody must listen there: Prefect's client would try for minutes. Behind a proxy only Prefect can tell."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise UserMistake(f"{who} is {url!r}, which is no address of a server, as http://127.0.0.1:4200/api is")
    if parts.scheme in getproxies():
        return
    try:
        socket.create_connection((parts.hostname, parts.port or PORTS[parts.scheme]), CONNECT_SECONDS).close()
    except OSError as error:
        raise UserMistake(
            f"no Prefect server answers at {url} ({who}): {error}; start it, or run without it: --no-prefect"
        ) from error


def _is_prefect(address: str) -> bool:
    connection = HTTPConnection(address, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/api/health")
        if connection.getresponse().read(16) != b"true":
            return False
        known = {"Authorization": f"Basic {base64.b64encode(word.encode()).decode()}"} if (word := login()) else {}
        connection.request("GET", "/api/admin/version", headers=known)
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
