"""The database URL of a Prefect server started here, in the form that Prefect's drivers take."""

import socket
from collections.abc import Mapping
from pathlib import Path

from rowtide.database_url import database_url
from rowtide.errors import UserMistake

NAMES = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")  # the first wins, in Prefect
CONNECT_SECONDS = 5.0
POSTGRES_PORT = 5432


def database_variable_in(environment: Mapping[str, str]) -> str | None:
    """Return the name of the variable that sets Prefect's database, or None."""
    return next((name for name in NAMES if environment.get(name)), None)


def prefect_database_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return both variables with a URL that Prefect can open; empty when neither is set.

    Raises UserMistake naming the variable where it is no such URL or nobody answers there.
    """
    if (name := database_variable_in(environment)) is None:
        return {}
    url = database_url(environment[name], name, keeps=False)
    match url.get_backend_name():
        case "postgresql":
            query = dict(url.query)
            if mode := query.pop("sslmode", None):
                query["ssl"] = mode  # asyncpg's word
            if url.host:
                _check_answers(url.host, url.port or POSTGRES_PORT, name)
            found = url.set(drivername="postgresql+asyncpg", query=query)
        case "sqlite":
            if url.database and not url.database.startswith((":", "file:")) and not Path(url.database).parent.is_dir():
                raise UserMistake(f"{Path(url.database).parent} is no folder: make it, or name another", key=name)
            found = url.set(drivername="sqlite+aiosqlite")
        case other:
            raise UserMistake(f"Prefect keeps its data in PostgreSQL or SQLite, and not in {other}", key=name)
    return dict.fromkeys(NAMES, found.render_as_string(hide_password=False))


def _check_answers(host: str, port: int, name: str) -> None:
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise UserMistake(f"nobody answers at {host}:{port}: {error}; start it, or set it right", key=name) from None
