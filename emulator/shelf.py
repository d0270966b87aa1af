"""Store batches on disk: a folder for each workspace; for each batch `ID.jsonl` (its rows) and `ID.json` (its state).

`ID.settled` has the results of rows that used MCP servers.

The metadata file is the batch: it appears last, by an atomic rename, and other emulators on the same folder see it. No
fsync: this must survive the emulator's death, not the machine's. A deleted batch leaves its metadata as a tombstone.
"""

import mmap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from emulator.batches import Batch, from_bytes, to_bytes


class Shelf:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, tuple[tuple[int, int], Batch]] = {}

    def new_rows(self, workspace: str, batch_id: str, lines: Iterable[bytes]) -> None:
        """Write a batch's rows. They belong to no batch until `keep` is called."""
        file = self._file(workspace, batch_id, "jsonl")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb", buffering=1 << 20) as rows:
            for line in lines:
                rows.write(line)
                rows.write(b"\n")

    def discard_rows(self, workspace: str, batch_id: str) -> None:
        for ending in ("jsonl", "settled"):
            self._file(workspace, batch_id, ending).unlink(missing_ok=True)

    def keep_result(self, batch: Batch, row: int, result: Mapping[str, Any]) -> None:
        """Keep what became of a row that may not come out the same again, in one write."""
        with self._file(batch.workspace, batch.id, "settled").open("ab") as kept:
            kept.write(orjson.dumps((row, result)) + b"\n")

    def kept_results(self, batch: Batch) -> dict[int, dict[str, Any]]:
        """The results that were kept, by row."""
        file = self._file(batch.workspace, batch.id, "settled")
        lines = file.read_bytes().splitlines() if batch.connected and file.exists() else []
        return dict(orjson.loads(line) for line in lines)

    def keep(self, batch: Batch) -> None:
        """Make what is known about a batch last, whole or not at all."""
        file = self._file(batch.workspace, batch.id, "json")
        fresh = file.with_suffix(".new")
        fresh.write_bytes(to_bytes(batch))
        fresh.replace(file)
        self._known[file] = (_mark(file), batch)

    def find(self, workspace: str, batch_id: str) -> Batch | None:
        if not batch_id.isalnum() and not batch_id.replace("_", "").isalnum():
            return None
        return self._read(self._file(workspace, batch_id, "json"))

    def keep_direct(self, workspace: str, message: Mapping[str, Any], *, is_stream: bool) -> None:
        """Note what a direct call used. One short write: a death leaves no half of a line."""
        noted = {"model": message["model"], "usage": message["usage"], "is_stream": is_stream}
        line = orjson.dumps(noted) + b"\n"
        with (self._folder / f"{workspace}.direct").open("ab") as notes:
            notes.write(line)

    def direct(self, workspace: str) -> list[dict[str, Any]]:
        """What a workspace's direct calls used, in their order."""
        file = self._folder / f"{workspace}.direct"
        return [orjson.loads(line) for line in file.read_bytes().splitlines()] if file.exists() else []

    def workspaces(self) -> list[str]:
        """Everybody who ever made a batch or a direct call."""
        found = self._folder.iterdir()
        return sorted({each.stem for each in found if each.is_dir() or each.suffix == ".direct"})

    def batches(self, workspace: str) -> list[Batch]:
        """Every batch of a workspace, newest first, tombstones too."""
        found = [self._read(file) for file in (self._folder / workspace).glob("*.json")]
        return sorted(
            (batch for batch in found if batch), key=lambda batch: (batch.created_at, batch.ordinal), reverse=True
        )

    def rows(self, batch: Batch) -> "Rows":
        return Rows(self._file(batch.workspace, batch.id, "jsonl"), batch.row_count)

    def _file(self, workspace: str, batch_id: str, ending: str) -> Path:
        return self._folder / workspace / f"{batch_id}.{ending}"

    def _read(self, file: Path) -> Batch | None:
        # Another emulator may have changed it since.
        try:
            written = _mark(file)
        except FileNotFoundError:
            return None
        known = self._known.get(file)
        if known is None or known[0] != written:
            known = self._known[file] = (written, from_bytes(file.read_bytes()))
        return known[1]


def _mark(file: Path) -> tuple[int, int]:
    """What changes when a file is replaced. The time alone does not: a clock tick is long."""
    found = file.stat()
    return found.st_mtime_ns, found.st_ino


class Rows:
    """A batch's rows on disk, read in any order without holding them."""

    def __init__(self, file: Path, row_count: int) -> None:
        with file.open("rb") as rows:
            self._bytes = mmap.mmap(rows.fileno(), 0, access=mmap.ACCESS_READ)
        self._starts = [0] * (row_count + 1)
        for row in range(row_count):
            self._starts[row + 1] = self._bytes.find(b"\n", self._starts[row]) + 1

    def __getitem__(self, row: int) -> dict[str, Any]:
        return orjson.loads(self._bytes[self._starts[row] : self._starts[row + 1]])
