"""Reads the records of a Parquet file so that a small file cannot fill memory.

Its metadata is checked before it is read: how long its columns are when unpacked, and how many values their lists hold.
Texts that a file stores once and repeats are unpacked row by row.
"""

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rowtide.errors import UserMistake
from rowtide.intake.plain_values import UnreadableValue, describe_conversions, plain_row
from rowtide.intake.source_interface import SourceShape, Weighed
from rowtide.intake.source_rows import BadRow, SourceRow
from rowtide.job.job_spec import SourceSpec

BATCH_ROWS = 256  # rows to a read, so a page ends after at most so many
AT_ONCE_BYTES = 16_000_000  # the same in bytes, for long rows
COLUMN_BYTES = 128_000_000  # a longer column of a row group must not be compressed more than MOST_PACKED times
MOST_PACKED = 100
READ_BYTES = 1 << 20  # read ahead of each column
REPEATED_BYTES = AT_ONCE_BYTES // BATCH_ROWS  # longer texts must not be repeated in each row of a batch
TEXTS = {"STRING", "NONE", "JSON", "ENUM"}  # logical types of byte columns that can be read as dictionaries
OF_MAP = ".key_value."  # in a map column's path, which cannot be read as a dictionary
VALUE_BYTES = 64  # Python's overhead for a value


class Parquet:
    """A Parquet file. Rows longer than `row_bytes` are quarantined."""

    def __init__(self, file: Path, _: SourceSpec, row_bytes: int) -> None:
        self._file, self._row_bytes = file, row_bytes

    def shape(self) -> SourceShape:
        """Return the column names, and notes on values in the first rows that are converted. Raises UserMistake."""
        names = list(_opened(self._file).schema_arrow.names)
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserMistake("two columns have this name", file=self._file, key=twice)
        return SourceShape(names, describe_conversions(self._first()))

    def records(self) -> Weighed:
        """Yield every record, with its approximate size in bytes.

        Raises UserMistake for a file that is not Parquet, or that unpacks to far more than its size.
        """
        number = 0
        try:
            for batch in _batches(self._file):
                for weight, row in _rows_of(batch, self._row_bytes):
                    number += 1
                    yield weight, _plain(number, row)
        except pa.ArrowException as error:
            raise UserMistake(f"row {number + 1:,} cannot be read: {error}", file=self._file) from None

    def _first(self) -> Iterator[Mapping[str, object]]:
        """Yield the first rows, up to the first that cannot be read."""
        seen = 0
        for weight, row in chain.from_iterable(
            _rows_of(batch, self._row_bytes) for batch in islice(_batches(self._file), 1)
        ):
            if not isinstance(row, BadRow | str):
                yield row
            if (seen := seen + weight) > AT_ONCE_BYTES:
                return


def _opened(file: Path, repeated: list[str] | None = None) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file, buffer_size=READ_BYTES, read_dictionary=repeated)
    except (pa.ArrowException, OSError) as error:
        raise UserMistake(f"not a Parquet file: {error}", file=file) from None


def _batches(file: Path) -> Iterator[pa.RecordBatch]:
    parquet = _opened(file)
    groups = range(parquet.metadata.num_row_groups)
    for group in groups:
        _check(parquet, group, file)
    repeated = sorted({name for group in groups for name in _repeated(parquet, group) if OF_MAP not in name})
    parquet = _opened(file, repeated) if repeated else parquet
    for group in groups:
        yield from parquet.iter_batches(batch_size=_rows_at_once(parquet, group), row_groups=[group])


def _check(parquet: pq.ParquetFile, group: int, file: Path) -> None:
    """Raise UserMistake for a column that is short in the file and long in memory."""
    for number, column in _columns(parquet, group):
        unpacked_bytes = _unpacked(parquet, number, column)
        if unpacked_bytes > max(COLUMN_BYTES, MOST_PACKED * column.total_compressed_size):
            raise UserMistake(
                f"the column {column.path_in_schema!r} has {column.total_compressed_size:,} bytes in row group "
                f"{group + 1}, which unpack to {unpacked_bytes:,}; write it in smaller row groups, if that is meant",
                file=file,
            )


def _repeated(parquet: pq.ParquetFile, group: int) -> Iterator[str]:
    """Yield the text columns that the file may store once for many rows."""
    for number, column in _columns(parquet, group):
        is_text = column.physical_type == "BYTE_ARRAY" and parquet.schema.column(number).logical_type.type in TEXTS
        if is_text and column.has_dictionary_page and column.total_uncompressed_size > REPEATED_BYTES:
            yield column.path_in_schema


def _rows_at_once(parquet: pq.ParquetFile, group: int) -> int:
    if any(OF_MAP in name for name in _repeated(parquet, group)):
        return 1
    rows = parquet.metadata.row_group(group).num_rows
    unpacked = sum(_unpacked(parquet, number, column) for number, column in _columns(parquet, group))
    return max(1, min(BATCH_ROWS, AT_ONCE_BYTES * rows // max(unpacked, 1)))


def _unpacked(parquet: pq.ParquetFile, number: int, column: Any) -> int:
    """Return the least size of a column's values in bytes: by the metadata, or by their number and type."""
    known = parquet.schema.column(number)
    fixed = known.length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else 8 * (known.max_repetition_level > 0)
    return max(column.total_uncompressed_size, column.num_values * fixed)


def _columns(parquet: pq.ParquetFile, group: int) -> Iterator[tuple[int, Any]]:
    found = parquet.metadata.row_group(group)
    return ((number, found.column(number)) for number in range(found.num_columns))


def _rows_of(batch: pa.RecordBatch, row_bytes: int) -> Iterator[tuple[int, Mapping[str, object] | BadRow | str]]:
    """Yield a batch's rows with their sizes; for a row with a value that Python cannot hold, the error text."""
    width = sum(map(_width, batch.columns))
    if width <= AT_ONCE_BYTES:
        try:
            rows = batch.to_pylist()
        except (ValueError, OverflowError, pa.ArrowException):
            rows = [_row_of(batch, number) for number in range(len(batch))]
        weight = 4 * width // max(len(batch), 1) + VALUE_BYTES * batch.num_columns
        yield from ((weight, row) for row in rows)
        return
    for number in range(len(batch)):
        width = sum(_width(column.slice(number, 1)) for column in batch.columns)
        if width > row_bytes:
            what = f"more than {row_bytes:,} bytes, which no row of limits.row_bytes can have"
            yield VALUE_BYTES, BadRow(0, "too_large", what)
        else:
            yield 4 * width + VALUE_BYTES * batch.num_columns, _row_of(batch, number)


def _width(values: Any) -> int:
    """Return the size of values in bytes once unpacked."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        if not (pa.types.is_primitive(kind.value_type) or len(values.dictionary) == 0):
            lengths = pc.take(pc.call_function("binary_length", [values.dictionary]), values.indices)
            return pc.call_function("sum", [lengths]).as_py() or 0
        return values.indices.nbytes
    if isinstance(values, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray) and not pa.types.is_map(kind):
        return 4 * len(values) + _width(values.flatten())
    if isinstance(values, pa.StructArray):
        return sum(map(_width, values.flatten()))
    return values.nbytes


def _row_of(batch: pa.RecordBatch, number: int) -> Mapping[str, object] | str:
    found: dict[str, object] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            found[name] = column[number].as_py()
        except (ValueError, OverflowError, pa.ArrowException) as error:
            return f"column {name!r}: {error}"
    return found


def _plain(number: int, values: Mapping[str, object] | BadRow | str) -> SourceRow | BadRow:
    if isinstance(values, BadRow):
        return BadRow(number, values.reason, values.detail)
    if isinstance(values, str):
        return BadRow(number, "unreadable_value", values)
    try:
        return SourceRow(number, plain_row(values))
    except UnreadableValue as error:
        return BadRow(number, "unreadable_value", str(error))
