"""The file formats of a folder sink: Parquet, CSV, JSONL, written from Arrow tables and read back."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from rowtide.job.answer_fields import LIST_OF
from rowtide.sinks.columns import DECIMAL, KEY, Column, SinkPage, flat_values, native_values

pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own keeps what it once had: 34 MB of a run's peak

ARROW_TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us", tz="UTC"),
    "datetime without zone": pa.timestamp("us"),
    "decimal": pa.string(),  # of any size, so no type is wide enough
    "json": pa.string(),
}
FLAT_TYPES = {kind: ARROW_TYPES[kind] for kind in ("integer", "number", "boolean")}

LINE = "line"
BLOCK_BYTES = 1 << 20  # of a CSV file, read at once
GROUP_ROWS = 10_000  # what Parquet compresses at once; of 50,000 it holds 25 MB more


@dataclass(frozen=True, slots=True)
class Format:
    """How one kind of file is written and read. Its tables always have the key's column."""

    suffix: str
    table: Callable[[Sequence[Column], SinkPage], pa.Table]
    encode: Callable[[pa.Table], bytes]
    read: Callable[[Sequence[Column], Path], pa.Table]


def arrow_table(columns: Sequence[Column], page: SinkPage) -> pa.Table:
    """Return a page as an Arrow table with native types: lists, dates, decimals."""
    values = {
        each.name: pa.array(native_values(each.kind, page.values[each.name]), arrow_type(each.kind)) for each in columns
    }
    return pa.table(values)


def flat_table(columns: Sequence[Column], page: SinkPage) -> pa.Table:
    """Return a page as an Arrow table of numbers, booleans and text only."""
    return pa.table(
        {each.name: pa.array(flat_values(each.kind, page.values[each.name]), flat_type(each.kind)) for each in columns}
    )


def arrow_type(kind: str) -> pa.DataType:
    if kind.startswith(LIST_OF):
        return pa.list_(arrow_type(kind.removeprefix(LIST_OF)))
    if found := DECIMAL.fullmatch(kind):
        return pa.decimal128(int(found[1]), int(found[2]))
    return ARROW_TYPES[kind]


def flat_type(kind: str) -> pa.DataType:
    return FLAT_TYPES.get(kind, pa.string())


def to_csv(table: pa.Table, *, header: bool) -> bytes:
    """Return a table as CSV. Text is quoted and a null is not, so a null and an empty text differ."""
    out = io.BytesIO()
    pa_csv.write_csv(table, out, pa_csv.WriteOptions(include_header=header))
    return out.getvalue()


def keys_in(table: pa.Table) -> set[str]:
    return set(table[KEY].to_pylist())


def without_rows_of_keys(table: pa.Table, keys: set[str]) -> pa.Table:
    """Return the table without the rows that have these keys."""
    return table.filter(pa.array([key not in keys for key in table[KEY].to_pylist()], pa.bool_()))


def split_by_column(table: pa.Table, column: str) -> dict[Any, pa.Table]:
    """Return the table split by a column's value, without the column: the file's folder names the value."""
    places: dict[Any, list[int]] = {}
    for place, value in enumerate(table[column].to_pylist()):
        places.setdefault(value, []).append(place)
    rest = table.drop_columns([column])
    return {value: rest.take(pa.array(rows)) for value, rows in places.items()}


def _to_parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd", row_group_size=GROUP_ROWS)
    return out.getvalue()


def _from_parquet(_: Sequence[Column], file: Path) -> pa.Table:
    return pq.ParquetFile(file).read()  # not read_table, which takes a folder called a=b for a column


def _from_csv(columns: Sequence[Column], file: Path) -> pa.Table:
    convert = pa_csv.ConvertOptions(
        column_types={each.name: flat_type(each.kind) for each in columns},
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    return pa_csv.read_csv(
        file,
        pa_csv.ReadOptions(block_size=max(BLOCK_BYTES, file.stat().st_size)),  # a row may not stand in two blocks
        pa_csv.ParseOptions(newlines_in_values=True),
        convert,
    )


def _to_lines(columns: Sequence[Column], page: SinkPage) -> pa.Table:
    """Each row's JSON line beside its key, in a table, because many small Python objects would keep their memory."""
    names = [each.name for each in columns]
    rows = zip(*(page.values[name] for name in names), strict=True)
    return _lines([orjson.dumps(dict(zip(names, row, strict=True)), option=orjson.OPT_APPEND_NEWLINE) for row in rows])


def _from_lines(_: Sequence[Column], file: Path) -> pa.Table:
    return _lines(file.read_bytes().splitlines(keepends=True))


def _lines(lines: Sequence[bytes]) -> pa.Table:
    keys = [orjson.loads(line)[KEY] for line in lines]
    return pa.table({KEY: pa.array(keys, pa.string()), LINE: pa.array(lines, pa.large_binary())})


PARQUET = Format("parquet", arrow_table, _to_parquet, _from_parquet)
CSV = Format("csv", flat_table, lambda table: to_csv(table, header=True), _from_csv)
JSON_LINES = Format("jsonl", _to_lines, lambda table: b"".join(table[LINE].to_pylist()), _from_lines)
