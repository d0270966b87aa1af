"""Names the API that answers a run, and checks that a run continues with the same one.

An API is named by its base URL. The key is no part of it: keys change, and many belong to one workspace. The emulator
that Rowtide starts when there is no key has no lasting URL; it has a name of its own, and a home of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from rowtide.errors import UserMistake

KEY, BASE_URL = "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"
REHEARSAL = "ROWTIDE_REHEARSAL"  # set by `rowtide` for itself and its children when there is no key
OWN_EMULATOR = "emulator"
DEFAULT_URL = "https://api.anthropic.com"
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Api:
    """An API, and whether its answers are made up."""

    name: str
    """Its base URL, or OWN_EMULATOR; empty if unknown."""
    is_made_up: bool = False
    """An emulator makes its answers up."""


UNKNOWN = Api("")


def api_name(base_url: str) -> str:
    """Return the name of the API at a base URL: normalized, without a password.

    Raises UserMistake for anything that is not a URL.
    """
    try:
        parts = urlsplit(base_url.strip())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise UserMistake("not a URL such as https://api.anthropic.com", key=BASE_URL)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = host if port in (None, DEFAULT_PORTS[parts.scheme]) else f"{host}:{port}"
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"


def api_in_environment(environment: Mapping[str, str]) -> str:
    """Return the name of the API that a command would use. Raises UserMistake."""
    if REHEARSAL in environment or not environment.get(KEY):
        return OWN_EMULATOR
    return api_name(environment.get(BASE_URL) or DEFAULT_URL)


def describe_api(name: str, *, is_made_up: bool) -> str:
    """Return an API's name as people read it: an address, or `the emulator`."""
    if name == OWN_EMULATOR:
        return "the emulator"
    return f"the emulator at {name}" if is_made_up else name or "an API that was not written down"


def check_same_api(run_id: str, api: str, now: str) -> None:
    """Raise UserMistake, with the variable to set, unless the run's API is the present one.

    `api` is the run's; empty if none was recorded: then any will do.
    """
    if api in ("", now):
        return
    if api == OWN_EMULATOR:
        raise UserMistake(
            f"run {run_id} is a rehearsal, whose answers an emulator makes up, and {now} would answer the rest: "
            f"unset {KEY} to go on with it, or start a new run"
        )
    setting = f"unset {BASE_URL}" if api == DEFAULT_URL else f"set {BASE_URL}={api}"
    if now == OWN_EMULATOR:
        setting = f"set {KEY}" + ("" if api == DEFAULT_URL else f" and {BASE_URL}={api}")
    raise UserMistake(
        f"run {run_id} is answered by {api}, and {describe_api(now, is_made_up=False)} knows nothing of it: "
        f"{setting} to go on with it, or start a new run"
    )
