"""Checks that the ledger can be opened and written, who may read its files, and the free disk space."""

import shutil
import stat
from pathlib import Path

from rowtide.ledger.inbox import check_writable
from rowtide.ledger.ledger import Ledger, all_runs
from rowtide.stages.diagnose.findings import Finding

LEAST_ROOM_BYTES = 1_000_000_000
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def examine_ledger(ledger: Ledger) -> list[Finding]:
    """Check that the ledger can be read and written, and report unfinished runs and its file. Raises RowtideError."""
    with ledger.view() as tx:
        runs = all_runs(tx, limit=1000)
    check_writable(ledger)
    found = [Finding("ledger", "ok", f"{ledger.name}: {len(runs):,} runs; it can be written")]
    stopped = [run.run_id for run in runs if not run.finished_at]
    if stopped:
        words = f"{len(stopped):,} runs are not over, such as {', '.join(stopped[:3])}"
        found.append(Finding("runs", "warning", words, f"rowtide resume {stopped[0]}"))
    url = ledger.engine.url
    if url.get_backend_name() == "sqlite" and url.database:
        found += _of_file(Path(url.database))
    return found


def examine_home(home: Path) -> list[Finding]:
    """Check who may read the home, and the free disk space for spooled batches and results."""
    found = [_open_to(home, "home")]
    place = next(folder for folder in (home, *home.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    room = f"{free / 1e9:,.1f} GB free for ledger, spool, results and reports"
    if free < LEAST_ROOM_BYTES:
        return [*found, Finding("disk", "warning", room, f"make room, or set ROWTIDE_HOME: {place} is nearly full")]
    return [*found, Finding("disk", "ok", room)]


def _of_file(file: Path) -> list[Finding]:
    size = f"{file.stat().st_size / 1e6:,.1f} MB"
    advice = f"sqlite3 {file} \".backup 'copy.db'\" makes a whole copy, also while runs go on"
    return [
        _open_to(file, "ledger file"),
        Finding("backup", "skipped", f"{size}; its copies are not known here", advice),
    ]


def _open_to(path: Path, subject: str) -> Finding:
    if not path.exists():
        return Finding(subject, "ok", f"{path} is made by the first run")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & OTHERS:
        mine = "700" if path.is_dir() else "600"
        return Finding(
            subject, "warning", f"{path} is open to others ({mode:o}): it holds rows", f"chmod {mine} {path}"
        )
    return Finding(subject, "ok", f"{path} is open to its owner alone")
