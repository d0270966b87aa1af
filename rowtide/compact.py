"""JSON that takes no more memory than it is long, for what is kept by the page."""

from collections.abc import Callable

import orjson


def compact_json(value: object, option: int = 0, default: Callable[[object], object] | None = None) -> bytes:
    """A value as JSON, copied.

    orjson writes into a buffer of 4 KB and gives the rest of it back, as a hole that its next buffer does not fit into:
    3,930 bytes for a row of 137 (3.13, with glibc).
    """
    return b"%b" % orjson.dumps(value, default, option)
