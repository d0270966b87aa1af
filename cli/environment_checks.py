"""Check a command's environment before anything is sent: platform, proxies, certificates, the home folder.

What is wrong with them is told in a sentence that names the variable or the file, before anything is sent.
"""

import errno
import ipaddress
import os
import ssl
import tempfile
import tomllib
from collections.abc import Mapping, MutableMapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from rowtide.errors import UserMistake
from rowtide.text_format import shorten_text

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
KINDS = ("http", "https", "socks5", "socks5h")
OWN = ("localhost", "127.0.0.1", "::1")
SERVERS = ("ANTHROPIC_BASE_URL", "PREFECT_API_URL")
FILES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
FOLDERS = ("SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
SET = "unset it, or set it right"
PROBE_BYTES = 65_536
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def check_platform(platform: str) -> None:
    """Raise UserMistake on a system without file locks or process groups."""
    if platform == "win32":
        words = "Rowtide runs on Linux and macOS: it locks files, and ends groups of processes, as Windows does not"
        raise UserMistake(f"{words}; run it in WSL")


def check_network(environment: MutableMapping[str, str]) -> None:
    """Exempt this machine from proxies, and raise UserMistake for unusable proxies or certificates."""
    exempt_localhost_from_proxies(environment)
    check_proxies(environment)
    check_certificates(environment)


def exempt_localhost_from_proxies(environment: MutableMapping[str, str]) -> None:
    """Add this machine to NO_PROXY, so that no proxy is asked for it."""
    if not any(name.upper() in PROXIES for name in environment):
        return
    exempt_hosts = [each.strip() for name in ("no_proxy", "NO_PROXY") for each in environment.get(name, "").split(",")]
    hosts = [host for name in SERVERS if (host := _host(environment.get(name, ""))) and _is_own(host)]
    environment["NO_PROXY"] = environment["no_proxy"] = ",".join(
        dict.fromkeys(filter(None, [*exempt_hosts, *OWN, *hosts]))
    )


def check_proxies(environment: Mapping[str, str]) -> None:
    """Raise UserMistake for a proxy that no client could use."""
    if "*" in environment.get("NO_PROXY", "").split(","):
        return
    for name, value in environment.items():
        if name.upper() not in PROXIES or not value.strip():
            continue
        url = value.strip() if "://" in value else f"http://{value.strip()}"
        if _host(url) is None:
            raise UserMistake(f"is no address of a proxy, such as http://proxy:3128; {SET}", key=name)
        if (scheme := url.partition("://")[0].lower()) not in KINDS:
            raise UserMistake(f"{scheme}:// is no proxy that can be used ({', '.join(KINDS)}); {SET}", key=name)
        if scheme.startswith("socks") and find_spec("socksio") is None:
            raise UserMistake("a SOCKS proxy needs a package more: pip install socksio; or unset it", key=name)


def check_certificates(environment: Mapping[str, str]) -> None:
    """Raise UserMistake for certificates that are missing, unreadable or invalid."""
    for name in dict.fromkeys((*FILES, *FOLDERS)):
        value = environment.get(name, "")
        for place in filter(None, value.split(os.pathsep) if name == "SSL_CERT_DIR" else [value]):
            if not (name in FOLDERS and Path(place).is_dir()):
                _check_certificate(name, Path(place))


def _check_certificate(name: str, place: Path) -> None:
    if name not in FILES:
        raise UserMistake(f"{place} is no folder of certificates; {SET}", key=name)
    try:
        with place.open("rb"):  # OpenSSL does not say which file it did not find
            ssl.create_default_context(cafile=str(place))
    except ssl.SSLError:
        raise UserMistake(f"{place} holds no certificates in PEM; {SET}", key=name) from None
    except OSError as error:
        raise UserMistake(f"{place}: {error.strerror}; {SET}", key=name) from None


def check_home(home: Path) -> None:
    """Raise UserMistake for a home folder that cannot be written to."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        why = "it, or what it is in, is a file" if isinstance(error, FileExistsError | NotADirectoryError) else ""
        words = f"{home} cannot be written: {why or error.strerror}; set it to a folder that can, or make room"
        raise UserMistake(words, key="ROWTIDE_HOME") from None


def explain_environment_error(error: BaseException, home: Path) -> str | None:
    """Return the part of the environment that caused an error, and what to do, in a sentence; None for other errors."""
    if isinstance(error, ValidationError) and error.title.endswith("Settings"):
        first = error.errors()[0]
        name, got = "_".join(str(part) for part in first["loc"]).upper(), shorten_text(repr(first["input"]), 80)
        return f"a setting of Prefect's is wrong, PREFECT_{name} or in a profile or file: {first['msg']} (got {got})"
    if isinstance(error, RuntimeError) and "home directory" in str(error):
        return "HOME is not set, and this user has no home of its own: set HOME to a folder that can be written"
    if isinstance(error, UnicodeDecodeError | tomllib.TOMLDecodeError | OSError) and (words := _unreadable()):
        return words
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return f"{error.filename or home}: {error.strerror}; make room"
    return None


def _unreadable() -> str | None:
    """The file that Prefect reads at the start of a command and that cannot be read, and why."""
    for file in (Path(".env"), Path("prefect.toml"), Path("pyproject.toml")):
        try:
            if file.is_file():
                text = file.read_text(encoding="utf-8")
                if file.suffix == ".toml":
                    tomllib.loads(text)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
            return f"{file.absolute()} cannot be read, and Prefect reads it: {why}"
    return None


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname


def _is_own(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
