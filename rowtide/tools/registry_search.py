"""Search an MCP registry over HTTPS for the server that is named for a capability.

What it says is a stranger's word. It is asked nowhere else than where the job says, and no more is read than an honest
registry has to say.
"""

import ipaddress
from collections.abc import Mapping
from typing import Any

import httpx2
import orjson

from rowtide.errors import UserMistake, WorldError, nearest_name
from rowtide.tools.http_bounds import bounded_client
from rowtide.tools.server_json import ServerJson
from rowtide.tools.server_secrets import ServerSecrets
from rowtide.tools.stubs import validate_strictly

ASK_SECONDS = 30
PAGE_SERVERS = 100
MOST_PAGES = 50
MOST_SERVERS = 1000
MOST_REDIRECTS = 3
OFFICIAL = "io.modelcontextprotocol.registry/official"


class _Asking:
    """One search: the registry, its secrets, and the key of job.yaml that a mistake names."""

    def __init__(self, registry: str, key: str, environment: Mapping[str, str]) -> None:
        self.key, self._secrets = key, ServerSecrets("registry", environment)
        self.url = httpx2.URL(self._secrets.fill_url(registry))
        self.shown = self._secrets.hide(registry)

    def mistake(self, what: str, meant: str | None = None) -> UserMistake:
        return UserMistake(self._secrets.hide(what), file=self.shown, key=self.key, meant=meant)

    def fault(self, what: str) -> WorldError:
        return WorldError(f"the registry {self.shown} {self._secrets.hide(what)}")


def registry_url_shown(registry: str, environment: Mapping[str, str]) -> str:
    """A registry's URL that may be logged: without password and tokens."""
    return _Asking(registry, "", environment).shown


async def find_server(registry: str, capability: str, key: str, environment: Mapping[str, str]) -> ServerJson:
    """The one server in a registry whose whole name, or its last part, is the capability.

    Raises UserMistake where there is none or several, or the registry may not be asked; WorldError where it is down.
    """
    asking = _Asking(registry, key, environment)
    if not _is_safe(asking.url):
        raise asking.mistake("a registry is asked over https://, or over http:// on this machine, or is a file")
    listed = await _search(asking, capability)
    named = [each for each in listed if each.name == capability]
    called = [each for each in listed if each.name.rpartition("/")[2] == capability]
    for found in (named, called):
        if len(found) == 1:
            return found[0]
    names = sorted({each.name for each in called or listed})
    if called:
        what = f"{len(called)} servers are named {capability!r}; ask for one by its whole name: {_some(names)}"
    else:
        others = f"; it lists {_some(names)}, and a server answers only for what it is named for" if names else ""
        what = f"no server is found that is named {capability!r}{others}"
    raise asking.mistake(what, meant=nearest_name(capability, names))


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


async def _search(asking: _Asking, capability: str) -> list[ServerJson]:
    found: list[ServerJson] = []
    asked = {"search": capability.rpartition("/")[2], "version": "latest", "limit": str(PAGE_SERVERS)}
    url = asking.url.copy_with(path=f"{asking.url.path.rstrip('/')}/v0.1/servers")
    async with bounded_client(streams=True, timeout=ASK_SECONDS) as web:
        for _ in range(MOST_PAGES):
            page = await _page(web, url.copy_merge_params(asked), asking)
            for listed in page.get("servers") or []:
                if _is_current(listed.get("_meta") or {}):
                    found.append(validate_strictly(listed.get("server"), ServerJson, asking.shown))
            cursor = (page.get("metadata") or {}).get("nextCursor")
            if not cursor or len(found) > MOST_SERVERS:
                break
            asked["cursor"] = str(cursor)
    return found


async def _page(web: httpx2.AsyncClient, url: httpx2.URL, asking: _Asking) -> dict[str, Any]:
    try:
        status, content = await _read(web, url, asking)
    except httpx2.HTTPError as error:
        raise asking.fault(f"cannot be reached: {error or type(error).__name__}") from None
    if status >= 500 or status == 429:
        raise asking.fault(f"says {status}")
    try:
        page = orjson.loads(content) if 200 <= status < 300 else None
    except orjson.JSONDecodeError:
        page = None
    if not isinstance(page, dict):
        raise asking.mistake(f"this is no MCP registry: it says {status}")
    return page


async def _read(web: httpx2.AsyncClient, url: httpx2.URL, asking: _Asking) -> tuple[int, bytes]:
    """The status and the body of the response at a URL; redirects stay within the same registry."""
    for _ in range(MOST_REDIRECTS + 1):
        async with web.stream("GET", url) as answer:
            if (to := answer.headers.get("location")) and answer.is_redirect:
                url = _followed(url, to, asking)
                continue
            return answer.status_code, await answer.aread()
    raise asking.mistake(f"it redirects more than {MOST_REDIRECTS} times")


def _followed(url: httpx2.URL, to: str, asking: _Asking) -> httpx2.URL:
    """The target of a redirect, if it is the same registry. Raises UserMistake otherwise."""
    there = url.join(to)
    if (there.scheme, there.host, there.port) != (url.scheme, url.host, url.port):
        raise asking.mistake(
            f"it redirects to {there.scheme}://{there.netloc.decode().rpartition('@')[2]}, which is another; "
            "write that in `registry`, if it is meant"
        )
    return there


def _is_safe(url: httpx2.URL) -> bool:
    if url.scheme == "https":
        return bool(url.host)
    return url.scheme == "http" and (url.host == "localhost" or _is_loopback(url.host))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_current(meta: Mapping[str, Any]) -> bool:
    official = meta.get(OFFICIAL) or {}
    return official.get("status", "active") != "deleted" and official.get("isLatest", True) is not False
