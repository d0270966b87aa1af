"""Damage a stream of results: cut, shortened, repeated, shuffled, or with a garbage line."""

import random
from collections.abc import Iterator
from itertools import chain, islice

from emulator.acts import Damage
from emulator.faults import Drop

RUBBISH = b"<html><body>upstream connect error</body></html>"


def whole(lines: Iterator[bytes]) -> Iterator[bytes]:
    return (line + b"\n" for line in lines)


def damaged(lines: Iterator[bytes], damage: Damage, ordinal: int) -> Iterator[bytes | Drop]:
    """Yield the lines with their newlines, damaged as planned; nothing follows a `Drop`. Each reading is shuffled in
    its own way.
    """
    if damage.shuffle:
        shuffled = list(lines)
        random.Random(ordinal).shuffle(shuffled)
        lines = iter(shuffled)
    if damage.repeat_lines:
        lines = chain.from_iterable((line, line) for line in lines)
    if damage.garbage_line:
        lines = (RUBBISH if at == damage.garbage_line else line for at, line in enumerate(lines, 1))
    pieces = _ended(whole(lines), damage)
    return _without_last_newline(pieces) if damage.no_last_newline else pieces


def _ended(lines: Iterator[bytes], damage: Damage) -> Iterator[bytes | Drop]:
    """The lines up to where the stream ends. A stream with fewer lines is cut at its own end."""
    half = damage.cut_mid_line or damage.cut_mid_line_cleanly
    if half:
        yield from islice(lines, half - 1)
        yield from (line[: len(line) // 2] for line in islice(lines, 1))
    elif damage.cut_after_lines is not None:
        yield from islice(lines, damage.cut_after_lines)
    else:
        yield from islice(lines, damage.end_after_lines)
    if damage.cut_mid_line or damage.cut_after_lines is not None:
        yield Drop()


def _without_last_newline(pieces: Iterator[bytes | Drop]) -> Iterator[bytes | Drop]:
    held = next(pieces, None)
    for piece in pieces:
        assert held is not None
        yield held
        held = piece
    if held is not None:
        yield held.removesuffix(b"\n") if isinstance(held, bytes) else held
