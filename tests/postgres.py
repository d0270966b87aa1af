"""A real PostgreSQL server of the tests' own: in a folder of its own, on a socket in it, gone with the tests."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from pwd import getpwall

import psycopg

OPTIONS = (
    "-c listen_addresses='' -c fsync=off -c max_connections=50 -c timezone=Europe/Rome"  # not UTC: nobody relies on it
)


@contextmanager
def server() -> Generator[Path]:
    """Start it; gives the folder of its socket. It refuses to run as root, so root lends it another user."""
    folder = Path(tempfile.mkdtemp(prefix="rowtide-pg-"))
    user = None if os.getuid() else next(each.pw_name for each in getpwall() if each.pw_name in ("postgres", "nobody"))
    if user:
        shutil.chown(folder, user)

    def run(program: str, *words: str) -> None:
        command = [str(_binaries() / program), "-D", str(folder / "data"), *words]
        subprocess.run(command, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C")
    run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", f"-k {folder} {OPTIONS}")
    try:
        yield folder
    finally:
        run("pg_ctl", "stop", "-m", "immediate")
        shutil.rmtree(folder)


@contextmanager
def database(socket: Path, name: str, *, template: str = "template1") -> Generator[str]:
    """A database, as empty as its template. Gives its URL."""
    with psycopg.connect(f"host={socket} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        yield f"postgresql+psycopg://postgres@/{name}?host={socket}"
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _binaries() -> Path:
    """Debian keeps them out of PATH, in a folder for each version."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
