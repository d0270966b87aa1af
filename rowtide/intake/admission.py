"""Decides which rows a run admits, and which it quarantines at once.

A row without a key, with a key already seen, too large, or unreadable is quarantined with its reason; the other rows
are not affected.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from rowtide.intake.source_rows import BadRow, SourceRow, canonical_json, key_fault, row_id, row_key


class Admission(NamedTuple):
    """A row as extract hands it to the ledger. A row with a `reason` is quarantined at once."""

    row_no: int
    row_key: str
    row_id: str
    content: bytes
    reason: str | None = None
    detail: str = ""


def row_keys_of_page(page: Sequence[SourceRow | BadRow], columns: Sequence[str]) -> list[str | None]:
    """Return the key of each row, or None for a row without one."""
    return [row_key(row.values, columns) if isinstance(row, SourceRow) else None for row in page]


def admit_page(
    page: Sequence[SourceRow | BadRow],
    keys: Sequence[str | None],
    *,
    present: Collection[str],
    first_row_no: int,
    row_bytes: int,
) -> list[Admission]:
    """Judge one page. `present` are keys that the run has already; `first_row_no` is the page's first row_no."""
    seen = set(present)
    taken: list[Admission] = []
    for row_no, (row, key) in enumerate(zip(page, keys, strict=True), first_row_no):
        if isinstance(row, BadRow):
            each = _refused(row_no, row.line, row.key, b"", row.reason, row.detail)
        else:
            each = _judged(row_no, row, key, seen, row_bytes)
        taken.extend(with_unused_names([each], seen))
        seen.add(taken[-1].row_key)
    return taken


def with_unused_names(rows: Sequence[Admission], present: Collection[str]) -> list[Admission]:
    """Return the rows, renaming those whose key is in `present`: `line 7` may be the key of another row."""
    return [
        row._replace(row_key=f"{row.row_key} (line {row.row_no})") if row.row_key in present else row for row in rows
    ]


def _judged(row_no: int, row: SourceRow, key: str | None, seen: Collection[str], row_bytes: int) -> Admission:
    content = canonical_json(row.values)
    if key is None:
        return _refused(row_no, row.line, None, content, "missing_key", "the key is null or blank")
    if fault := key_fault(key):
        return _refused(row_no, row.line, None, content, "unusable_key", fault)
    if key in seen:
        detail = f"{key!r} names an earlier row; the first one is used"
        return _refused(row_no, row.line, key, content, "duplicate_key", detail)
    if len(content) > row_bytes:
        detail = f"{len(content):,} bytes as JSON; limits.row_bytes is {row_bytes:,}"
        return Admission(row_no, key, row_id(content), b"{}", "too_large", detail)
    return Admission(row_no, key, row_id(content), content)


def _refused(row_no: int, line: int, key: str | None, content: bytes, reason: str, detail: str) -> Admission:
    """Return a quarantined row named by its line, so that it can be found and edited."""
    name = f"{key} (line {line})" if key else f"line {line}"
    line_name = f"line {line}: {detail}".replace("\0", "\\0")  # PostgreSQL's text holds no NUL
    return Admission(row_no, name, row_id(content), content or b"{}", reason, line_name)
