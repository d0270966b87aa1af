"""Database URLs: parse what people write into a SQLAlchemy URL for the drivers installed here.

`postgres://`, `postgresql://` and any driver of it are psycopg's; a socket may stand where libpq lets it; a relative
file is one of the folder that it is said for, whatever folder a command is started in.
"""

import os
import re
from pathlib import Path
from urllib.parse import unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from rowtide.errors import UserMistake
from rowtide.extras import need

EXAMPLE = "postgresql://user@host/database"
POSTGRES = re.compile(r"(postgres|postgresql|pgsql)(\+\w+)?$", re.IGNORECASE)
PLACE = r"[^/?#@]*(/[^@]*)?(\?.*)?"  # host, port, database and what is said besides
FILES = ("sqlite", "duckdb")
ONLY_PSYCOPG2 = ("async_fallback", "prepared_statement_cache_size")  # words of other drivers that mean nothing here


def database_url(text: str, key: str, folder: Path | None = None, *, keeps: bool = True) -> URL:
    """Parse a database URL. A file's relative path is relative to `folder`; `keeps`: it is written to, so it must be
    durable.

    Raises UserMistake naming `key`, where the URL was said, and never the password in it.
    """
    scheme, colon, rest = text.strip().partition("://")
    if not colon or not re.fullmatch(r"[A-Za-z][\w+.-]*", scheme):
        raise UserMistake(f"no URL of a database, such as {EXAMPLE}", key=key)
    scheme = "postgresql+psycopg" if POSTGRES.match(scheme) else scheme.lower()
    if scheme == "postgresql+psycopg":
        need("postgres", "psycopg")
    try:
        url = _parsed(scheme, rest)
    except (ArgumentError, ValueError):
        raise UserMistake(f"no URL of a database, such as {EXAMPLE}", key=key) from None
    if url.get_backend_name() in FILES:
        return _of_file(url, key, folder, keeps=keeps)
    return _of_postgresql(url) if url.drivername == "postgresql+psycopg" else url


def _parsed(scheme: str, rest: str) -> URL:
    """The parts of a URL. The password may hold unquoted characters: it ends at the last @."""
    login, at, place = rest.rpartition("@")
    if not at or re.search(r"\?\w+=", login) or not re.fullmatch(PLACE, place):
        return make_url(f"{scheme}://{rest}")
    user, colon, password = login.partition(":")
    url = make_url(f"{scheme}://{place}")
    return url.set(username=unquote(user) or None, password=unquote(password) if colon else None)


def _of_postgresql(url: URL) -> URL:
    """The URL with libpq's notation for a socket resolved: `postgresql://%2Fvar%2Frun%2Fpostgresql/database`."""
    query = {name: value for name, value in url.query.items() if name not in ONLY_PSYCOPG2}
    if "ssl" in query and "sslmode" not in query:  # asyncpg's word
        query["sslmode"] = query.pop("ssl")
    if url.host and url.host.lower().startswith("%2f"):
        query["host"] = unquote(url.host)
        url = URL.create(url.drivername, url.username, url.password, None, url.port, url.database)
    return url.set(query=query)


def _of_file(url: URL, key: str, folder: Path | None, *, keeps: bool) -> URL:
    """The URL of a file, with its absolute path. Raises UserMistake for an in-memory database that is written to."""
    name = url.database or ""
    if url.host:
        words = f"write three slashes: {url.get_backend_name()}:///file for a relative path, four for an absolute one"
        raise UserMistake(words, key=key)
    if name in ("", ":memory:"):
        if not keeps:
            return url
        raise UserMistake(f"{url.get_backend_name()} in memory keeps nothing: name a file", key=key)
    if folder is None or name.startswith("file:"):
        return url
    return url.set(database=os.path.normpath(folder / name))
