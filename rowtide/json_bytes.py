"""JSON to bytes and back: no more memory than the text needs, and whole numbers of any length.

orjson knows whole numbers of 64 bits. A longer one it reads as a fraction, which is another number, and does not write.
"""

import json
from collections.abc import Callable
from typing import Any

import orjson

AS_ZEROS, LONG = bytes.maketrans(b"123456789", b"0" * 9), b"0" * 19  # digits for which 64 bits may be too few


def dump_json(value: object, option: int = 0, default: Callable[[object], object] | None = None) -> bytes:
    """Return a value as JSON, in bytes of their own size.

    orjson writes into a buffer of 4 KB and gives the rest of it back, as a hole that its next buffer does not fit into:
    3,930 bytes for a row of 137 (3.13, with glibc).
    """
    try:
        return b"%b" % orjson.dumps(value, default, option)
    except orjson.JSONEncodeError as error:
        if "64-bit" not in str(error):
            raise
        is_sorted = bool(option & orjson.OPT_SORT_KEYS)
        try:
            whole = json.dumps(
                value, ensure_ascii=False, separators=(",", ":"), sort_keys=is_sorted, default=default, allow_nan=False
            )
            return whole.encode()
        except ValueError:  # half a pair of surrogates, or NaN
            raise error from None


def parse_json(text: bytes) -> Any:
    """Return the value of a JSON text, its whole numbers as long as they are. Raises orjson.JSONDecodeError, a
    ValueError.
    """
    found = orjson.loads(text)
    if not may_exceed_64_bits(text):
        return found
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # of more digits than Python reads
        return found


def may_exceed_64_bits(text: bytes) -> bool:
    """Return whether the text may hold a whole number beyond 64 bits."""
    return LONG in text.translate(AS_ZEROS)
