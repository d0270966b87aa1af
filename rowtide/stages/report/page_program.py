"""Runs a drawing function as a program of its own, with its arguments as JSON on stdin.

A URL may hold a password, so it must not be an argument that others can list.
"""

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from rowtide.errors import RowtideError
from rowtide.ledger.ledger import Ledger

EXIT_MISTAKE = 2


def draw_by_order(draw: Callable[[Ledger, dict[str, Any], Path, datetime], None]) -> None:
    """Read `ledger_url`, `file`, `now` and what else `draw` needs from stdin, and call `draw` with them.

    Exits 2, with a line on stderr, when it fails for a known reason.
    """
    given = orjson.loads(sys.stdin.buffer.read())
    ledger = Ledger(given["ledger_url"])
    try:
        draw(ledger, given, Path(given["file"]), datetime.fromisoformat(given["now"]))
    except RowtideError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_MISTAKE)
    finally:
        ledger.close()


def write_page(file: Path, html: str) -> None:
    """Write a page to a file, whole or not at all: if writing fails, the older page stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_name(f".{file.name}.half")
    half.write_text(html, encoding="utf-8")
    half.replace(file)
