"""Turn a tool's result into the text that a model reads.

A result has blocks of content and may have structured content beside them. The protocol wants the blocks to say the
same again as JSON, whole or in parts; the model reads it once, and what they say besides.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NOTHING = "[it said nothing]"
UNPAIRED = re.compile("[\ud800-\udfff]")  # half a pair of surrogates: JSON can escape it, UTF-8 cannot write it
BEGINNING = re.compile(rb'\s*\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*(\d{1,18})\s*,')


def result_text(blocks: Sequence[str], structured: object) -> str:
    """The text of a tool's result: its structured content as JSON, then every block that says something else."""
    if structured is None:
        return "\n".join(blocks) or NOTHING
    new = [block for block in blocks if not _is_repeated(structured, {_canonical(block): block} | _as_json(block))]
    return "\n".join([lossless_json(structured), *new])


def lossless_json(value: object) -> str:
    """A value as JSON, including what other JSON writers refuse: numbers of any length, NaN, half a surrogate pair."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def parse_json_or_call_id(line: bytes) -> Any:
    """Return the value of a JSON line with what is no UTF-8 replaced by U+FFFD; of a line that is no JSON, the id of
    the call it answers and nothing else, or None if there is none."""
    try:
        found = json.loads(line.decode("utf-8", "replace"))
        return json.loads(UNPAIRED.sub("\ufffd", lossless_json(found)))
    except (ValueError, RecursionError):
        answers = BEGINNING.match(line)
        return {"id": int(answers[1])} if answers else None


def _is_repeated(structured: object, text_blocks: Mapping[str, object]) -> bool:
    """Whether the structured content holds one of these values, compared as JSON: 1 is not true."""
    return _canonical(structured) in text_blocks or any(
        value == other and _canonical(value) == name
        for value in _values(structured)
        for name, other in text_blocks.items()
    )


def _as_json(block: str) -> dict[str, object]:
    parsed = _parsed(block)
    return {_canonical(parsed): parsed}


def _values(value: object) -> Iterator[object]:
    """A value, and every value in it."""
    yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _values(each)


def _parsed(block: str) -> object:
    try:
        return json.loads(block)
    except (ValueError, RecursionError):
        return block


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)
