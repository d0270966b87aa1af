"""Ids in the API's shapes: a prefix, `01`, and 22 letters like those of base 58."""

import secrets
from base64 import b64encode
from hashlib import blake2b

# Base 64, without the letters that base 58 leaves out.
LETTERS = bytes.maketrans(b"+/0OIl", b"aB9pJm")


def fresh_id(prefix: str) -> str:
    """Return a new random id, such as `msgbatch_01…` or `req_011C…`."""
    return _spell(prefix, secrets.token_bytes(17))


def derived_id(prefix: str, *parts: str) -> str:
    """Return the same id for the same parts, so that a batch read twice gives the same messages."""
    return _spell(prefix, _digest(parts))


def fingerprint(*parts: str) -> int:
    """Return a number that depends on the parts alone: not on the process, the machine or the order of calls."""
    return int.from_bytes(_digest(parts), "big")


def workspace_of(api_key: str) -> str:
    """Return the workspace of a key: every key has its own."""
    return f"wrkspc_01{blake2b(api_key.encode(), digest_size=11).hexdigest()}"


def _digest(parts: tuple[str, ...]) -> bytes:
    return blake2b("\x1f".join(parts).encode(errors="replace"), digest_size=17).digest()


def _spell(prefix: str, digest: bytes) -> str:
    letters = b64encode(digest).translate(LETTERS).decode()
    return f"{prefix}_011C{letters[:20]}" if prefix == "req" else f"{prefix}_01{letters[:22]}"
