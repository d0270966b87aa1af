"""The sink for a folder of files: each part appears whole, by a rename and under a fixed name, or not at all.

One process at a time writes to a folder (`.lock`; a dead one holds nothing). Rows that a part replaces are taken out of
older parts after it stands, so a key is never missing; the manifest is replaced last, and lists what stands.
"""

import fcntl
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pyarrow as pa

from rowtide.errors import UserMistake, WorldError
from rowtide.sinks.columns import Column, SinkPage, check_partition, columns_to_add
from rowtide.sinks.find_refused_rows import RowByRowWriter, RowsRefused
from rowtide.sinks.sink import Place
from rowtide.sinks.sink_formats import Format, keys_in, split_by_column, without_rows_of_keys

MANIFEST = "_manifest.json"
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
LONGEST_FOLDER = 255  # bytes; what file systems take


class FolderSink:
    """A folder of files in one format, partitioned by a column's value if wanted."""

    def __init__(self, folder: Path, form: Format, columns: Sequence[Column], partition_by: str | None) -> None:
        self.folder, self.format, self.columns, self.partition_by = folder, form, columns, partition_by

    @property
    def location(self) -> str:
        return str(self.folder)

    def check(self) -> None:
        """Raise UserMistake when the existing files and the columns to load are incompatible."""
        manifest = self.manifest()
        if manifest["files"] and "columns" in manifest:
            columns_to_add(manifest["columns"], self.columns, sink=self.location)
            if manifest["partition_by"] != self.partition_by:
                words = f"is {manifest['partition_by']!r} there and {self.partition_by!r} now; load into another folder"
                raise UserMistake(words, file=self.location, key="sink.partition_by")

    @contextmanager
    def writing(self, part: str, *, has_taken: bool = False) -> Generator["FolderPart"]:
        """Write a part; the folder is locked for this process until the block ends."""
        with self.errors_as_mistakes():
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left_behind in self.folder.glob("**/.*.part"):
                left_behind.unlink()
            self.check()
            yield FolderPart(self, part, has_taken=has_taken)
        finally:
            os.close(lock)

    @contextmanager
    def errors_as_mistakes(self) -> Generator[None]:
        """Turn errors of the file system into UserMistake."""
        try:
            yield
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise UserMistake(f"{error.strerror}: {error.filename}", file=self.location, key="sink.path") from None
        except OSError as error:
            raise WorldError(f"{self.location}: {error.strerror}") from None

    def files(self, part: str) -> list[Path]:
        """Return the files of a part that exist."""
        return sorted(self.folder.glob(f"{'*/' if self.partition_by else ''}{part}.{self.format.suffix}"))

    def manifest(self) -> dict[str, Any]:
        file = self.folder / MANIFEST
        found: dict[str, Any] = orjson.loads(file.read_bytes()) if file.is_file() else {}
        return found if "files" in found else {"files": found}  # the first manifests were the list of files alone


def open_folder_sink(form: Format, place: Place) -> FolderSink:
    """Return the folder of parts that the job names. Raises UserMistake."""
    spec = place.spec
    if spec.partition_by is not None:
        check_partition(place.columns, spec.partition_by)
    return FolderSink(place.home / (spec.path or ""), form, place.columns, spec.partition_by)


class FolderPart:
    """A part that is being written."""

    def __init__(self, sink: FolderSink, part: str, *, has_taken: bool) -> None:
        self._writing = RowByRowWriter(self._write, sink.location, has_taken)
        self._sink, self._part = sink, part
        self._pages: list[pa.Table] = []
        self._files: dict[str, Any] = sink.manifest()["files"]

    def keys_held(self, part: str, keys: set[str]) -> set[str]:
        """Return the keys that another part holds, even a half-written one."""
        return {key for file in self._sink.files(part) for key in keys_in(self._read(file))} & keys

    def write(self, page: SinkPage) -> dict[int, str]:
        return self._writing.page(page)

    def finish(self, replaced: Mapping[str, set[str]]) -> None:
        """Publish the part, and remove the rows it replaces (older part → keys) from their files."""
        with self._sink.errors_as_mistakes():
            self._finish(replaced)

    def _write(self, page: SinkPage) -> None:
        if column := self._sink.partition_by:
            for value in set(page.values[column]):
                _folder(column, value)
        self._pages.append(self._sink.format.table(self._sink.columns, page))

    def _finish(self, replaced: Mapping[str, set[str]]) -> None:
        stood = set(self._sink.files(self._part))
        for file, table in self._by_file().items():
            self._put(file, table)
            stood.discard(file)
        for file in stood:
            self._remove(file)
        for older, keys in replaced.items():
            for file in self._sink.files(older):
                table = self._read(file)
                if (kept := without_rows_of_keys(table, keys)).num_rows < table.num_rows:
                    self._put(file, kept)
                else:  # a life that died here may have written it, and not the manifest
                    self._files[self._name(file)] = {"rows": table.num_rows, "bytes": file.stat().st_size}
        columns = {column.name: column.kind for column in self._sink.columns}
        manifest = {
            "columns": columns,
            "partition_by": self._sink.partition_by,
            "files": {name: each for name, each in sorted(self._files.items()) if (self._sink.folder / name).is_file()},
        }
        _replace(self._sink.folder / MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))

    def take_out(self, parts: Mapping[str, set[str]]) -> None:
        """Remove rows (part → keys) from their files."""
        self.finish(parts)

    def _by_file(self) -> dict[Path, pa.Table]:
        if not self._pages:
            return {}
        name, column = f"{self._part}.{self._sink.format.suffix}", self._sink.partition_by
        table = pa.concat_tables(self._pages)
        if column is None:
            return {self._sink.folder / name: table}
        here = self._sink.folder
        return {here / _folder(column, value) / name: rows for value, rows in split_by_column(table, column).items()}

    def _put(self, file: Path, table: pa.Table) -> None:
        """Replace one file atomically; an empty one is removed."""
        if not table.num_rows:
            self._remove(file)
            return
        file.parent.mkdir(exist_ok=True)
        content = self._sink.format.encode(table)
        _replace(file, content)
        self._files[self._name(file)] = {"rows": table.num_rows, "bytes": len(content)}

    def _remove(self, file: Path) -> None:
        """Remove a file, and its folder when that is empty."""
        file.unlink(missing_ok=True)
        self._files.pop(self._name(file), None)
        if self._sink.partition_by:
            with suppress(OSError):
                file.parent.rmdir()

    def _name(self, file: Path) -> str:
        return file.relative_to(self._sink.folder).as_posix()

    def _read(self, file: Path) -> pa.Table:
        return self._sink.format.read(self._sink.columns, file)


def _folder(column: str, value: Any) -> str:
    """The folder of a partition, `column=value`. Raises RowsRefused for a value that cannot be such a name."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    name = f"{quote(column, safe='')}={NO_VALUE if value is None else quote(text, safe='')}"
    if text == NO_VALUE:
        raise RowsRefused(f"{column}: {text!r} is what readers take for no value in a folder's name")
    if len(name) > LONGEST_FOLDER:
        raise RowsRefused(
            f"{column}: {text[:60]!r}… is too long to name a folder ({len(name)} of {LONGEST_FOLDER} bytes)"
        )
    return name


def _replace(file: Path, content: bytes) -> None:
    """Write `content` to the file atomically."""
    part = file.with_name(f".{file.name}.part")
    with part.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
