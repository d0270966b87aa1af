"""Where accepted rows go: folders of parts, or a table; written so that writing again changes nothing.

A part has a deterministic name and appears whole, by a rename, or not at all. Rows it replaces in older parts are
taken out of those after it stands. A table is upserted, and the load recorded in the same transaction.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, get_args

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel
from sqlalchemy import Column, Connection, Float, Integer, MetaData, Table, Text, create_engine, inspect, text
from sqlalchemy import types as sql_types
from sqlalchemy.engine import make_url

from rowtide.errors import UserMistake, nearest
from rowtide.job import SinkSpec
from rowtide.sources import expand

KEY = "row_key"
MANIFEST = "_manifest.json"
Records = Sequence[Mapping[str, Any]]


class Sink(Protocol):
    """Somewhere accepted rows go."""

    @property
    def location(self) -> str:
        """Where that is, for people and for the ledger; no secrets."""
        ...

    def write_part(self, part: str, records: Records, superseded: Mapping[str, set[str]]) -> None:
        """Write a part; take the keys in `superseded` (older part → keys) out of where they stood before."""
        ...


def open_sink(spec: SinkSpec, home: Path, answer: type[BaseModel], environment: Mapping[str, str]) -> Sink:
    """The sink a job names. Relative folders are under `home`."""
    fields = {name: _plain_type(field.annotation) for name, field in answer.model_fields.items()}
    if spec.kind == "sql":
        return TableSink(expand(spec.url or "", environment), spec.table or "", fields)
    return FolderSink(home / (spec.path or ""), spec.kind, fields)


class FolderSink:
    """A folder of parts in one format, with a manifest of what each holds."""

    def __init__(self, folder: Path, kind: str, fields: Mapping[str, type]) -> None:
        self._folder, self._kind, self._fields = folder, kind, fields
        self._encode, self._decode = FORMATS[kind]

    @property
    def location(self) -> str:
        return str(self._folder)

    def write_part(self, part: str, records: Records, superseded: Mapping[str, set[str]]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._put(part, records)
        for older, keys in superseded.items():
            file = self._file(older)
            if file.is_file():
                kept = [row for row in self._decode(file.read_bytes()) if row[KEY] not in keys]
                self._put(older, kept)

    def _put(self, part: str, records: Records) -> None:
        """Replace one part whole; an empty one goes."""
        file = self._file(part)
        if records:
            _replace(file, self._encode(records, self._fields))
        else:
            file.unlink(missing_ok=True)
        manifest = self._manifest()
        manifest.pop(file.name, None)
        if records:
            manifest[file.name] = {"rows": len(records), "bytes": file.stat().st_size}
        _replace(self._folder / MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))

    def _manifest(self) -> dict[str, Any]:
        file = self._folder / MANIFEST
        return orjson.loads(file.read_bytes()) if file.is_file() else {}

    def _file(self, part: str) -> Path:
        return self._folder / f"{part}.{self._kind}"


class TableSink:
    """A table, upserted by key; each load is recorded in the same transaction."""

    def __init__(self, url: str, table: str, fields: Mapping[str, type]) -> None:
        self._engine = create_engine(url)
        self._name, self._fields = table, fields
        self.location = f"{make_url(url).render_as_string(hide_password=True)}#{table}"
        metadata = MetaData()
        columns = [Column(name, SQL_TYPES.get(kind, Text)) for name, kind in fields.items()]
        self._table = Table(table, metadata, Column(KEY, Text, primary_key=True), *columns)
        self._loads = Table("rowtide_loads", metadata, Column("part", Text, primary_key=True), Column("rows", Integer))
        with self._engine.begin() as tx:
            metadata.create_all(tx)
            self._check(tx)

    def write_part(self, part: str, records: Records, superseded: Mapping[str, set[str]]) -> None:
        """Upserting takes the place of older rows, so there is nothing to take out."""
        names = [KEY, *self._fields]
        places = ", ".join(f":{name}" for name in names)
        changes = ", ".join(f'"{name}" = excluded."{name}"' for name in self._fields)
        quoted = ", ".join(f'"{name}"' for name in names)
        with self._engine.begin() as tx:
            if records:
                insert = f'INSERT INTO "{self._name}" ({quoted}) VALUES ({places})'
                upsert = f"{insert} ON CONFLICT ({KEY}) DO UPDATE SET {changes}"
                tx.execute(text(upsert), [{name: _cell(row.get(name)) for name in names} for row in records])
            tx.execute(
                text("INSERT INTO rowtide_loads (part, rows) VALUES (:part, :rows) ON CONFLICT (part) DO NOTHING"),
                {"part": part, "rows": len(records)},
            )

    def _check(self, tx: Connection) -> None:
        present = [str(column["name"]) for column in inspect(tx).get_columns(self._name)]
        for name in (KEY, *self._fields):
            if name not in present:
                raise UserMistake(
                    f"the table has no column {name!r}; it has {', '.join(present)}",
                    file=self.location,
                    meant=nearest(name, present),
                )


SQL_TYPES: dict[type, Any] = {str: Text, int: Integer, float: Float, bool: sql_types.Boolean}
ARROW_TYPES: dict[type, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def _plain_type(annotation: Any) -> type:
    """The column type of an answer's field; what is not a plain value is kept as JSON text."""
    if annotation in ARROW_TYPES:
        return annotation
    if isinstance(annotation, type):
        return next((plain for plain in (str, bool, int, float) if issubclass(annotation, plain)), str)
    kinds = {
        _plain_type(arg if isinstance(arg, type) else type(arg))
        for arg in get_args(annotation)
        if arg not in (None, type(None))
    }
    return kinds.pop() if len(kinds) == 1 else str


def _cell(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, list | dict) else value


def _replace(file: Path, content: bytes) -> None:
    """Make the file hold `content`, at once or not at all."""
    part = file.with_name(f".{file.name}.part")
    with part.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)


def _to_parquet(records: Records, fields: Mapping[str, type]) -> bytes:
    names = {KEY: str, **fields, **{name: str for row in records[:1] for name in row if name not in (KEY, *fields)}}
    arrays = {
        name: pa.array([_cell(row.get(name)) for row in records], ARROW_TYPES[kind]) for name, kind in names.items()
    }
    out = io.BytesIO()
    pq.write_table(pa.table(arrays), out, compression="zstd")
    return out.getvalue()


def _from_parquet(content: bytes) -> Records:
    return pq.read_table(io.BytesIO(content)).to_pylist()


def _to_csv(records: Records, fields: Mapping[str, type]) -> bytes:
    out = io.StringIO(newline="")
    table = csv.DictWriter(out, [KEY, *fields])
    table.writeheader()
    table.writerows({name: _cell(row.get(name)) for name in (KEY, *fields)} for row in records)
    return out.getvalue().encode()


def _from_csv(content: bytes) -> Records:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def _to_jsonl(records: Records, _: Mapping[str, type]) -> bytes:
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in records)


def _from_jsonl(content: bytes) -> Records:
    return [orjson.loads(line) for line in content.splitlines()]


FORMATS = {"parquet": (_to_parquet, _from_parquet), "csv": (_to_csv, _from_csv), "jsonl": (_to_jsonl, _from_jsonl)}
