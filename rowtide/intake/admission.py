"""Which rows a run takes in, and which it sets aside at the door.

A row without a key, with a key already seen, too large, or unreadable is quarantined at once with its reason; the
others are none the worse for it.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from rowtide.intake.rows import BadRow, SourceRow, canonical, row_id, row_key


class Admission(NamedTuple):
    """A row as extract hands it to the ledger. `reason` sends it to quarantine at once."""

    row_no: int
    row_key: str
    row_id: str
    content: bytes
    reason: str | None = None
    detail: str = ""


def keys_of(page: Sequence[SourceRow | BadRow], columns: Sequence[str]) -> list[str | None]:
    """The key of each row, or None where there is none."""
    return [row_key(row.values, columns) if isinstance(row, SourceRow) else None for row in page]


def admissions(
    page: Sequence[SourceRow | BadRow],
    keys: Sequence[str | None],
    *,
    present: Collection[str],
    first_row_no: int,
    row_bytes: int,
) -> list[Admission]:
    """Judge one page. `present` are keys the run has already; `first_row_no` is the number of the page's first row."""
    seen = set(present)
    taken: list[Admission] = []
    for row_no, (row, key) in enumerate(zip(page, keys, strict=True), first_row_no):
        if isinstance(row, BadRow):
            taken.append(_refused(row_no, row.line, row.key, b"", row.reason, row.detail))
            continue
        content = canonical(row.values)
        if key is None:
            taken.append(_refused(row_no, row.line, None, content, "missing_key", "the key is null or blank"))
        elif key in seen:
            detail = f"{key!r} stands earlier in the source; the first one is used"
            taken.append(_refused(row_no, row.line, key, content, "duplicate_key", detail))
        elif len(content) > row_bytes:
            detail = f"{len(content):,} bytes as JSON; limits.row_bytes is {row_bytes:,}"
            taken.append(Admission(row_no, key, row_id(content), b"{}", "too_large", detail))
        else:
            taken.append(Admission(row_no, key, row_id(content), content))
        if key is not None:
            seen.add(key)
    return taken


def _refused(row_no: int, line: int, key: str | None, content: bytes, reason: str, detail: str) -> Admission:
    """A row that cannot go by its own key is known by its line, so that it can be found and mended."""
    name = f"{key} (line {line})" if key else f"line {line}"
    return Admission(row_no, name, row_id(content), content or b"{}", reason, f"line {line}: {detail}")
