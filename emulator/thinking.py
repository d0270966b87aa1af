"""Thinking blocks: empty text and a signature, bound to the account, the model and everything said before.

The signature proves nothing to anybody but the emulator, which is all it is for.
"""

import re
from base64 import b64decode, b64encode
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import orjson

from emulator.conversation import blocks
from emulator.problems import Problem, invalid

MODIFIED = (
    "{place}: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified. "
    "These blocks must remain as they were in the original response."
)
MALFORMED = "{place}: Invalid `signature` in `thinking` block"
OTHER_PREFIX = (
    "{place}: Invalid `signature` in `thinking` block. The block is bound to a different conversation. Remove the "
    'block, or set `thinking.block_binding.prefix_mismatch_behavior` to "drop_block".'
)
CACHE_MARK = re.compile(rb',?"cache_control":\{[^{}]*\}')


def thinking_block(params: dict[str, Any], model_id: str, workspace: str) -> dict[str, str]:
    """The block that opens a reply to this request."""
    signature = _signature(model_id, workspace, _prefix(params, len(params["messages"])))
    return {"type": "thinking", "thinking": "", "signature": signature}


def check_thinking(params: dict[str, Any], model_id: str, workspace: str, *, batch: bool) -> None:
    """Refuse thinking that comes back changed, or after other words than it was thought after.

    Only the latest assistant message is looked at. Blocks of other models or accounts are dropped without a word.
    """
    messages = params["messages"]
    at = max((at for at, message in enumerate(messages) if message["role"] == "assistant"), default=0)
    for place, block in enumerate(blocks(messages[at])):
        if block["type"] != "thinking":
            continue
        where = f"messages.{at}.content.{place}"
        signer = _signer(block.get("signature"), where)
        if block.get("thinking"):
            raise invalid(MODIFIED.format(place=where))
        if signer != (model_id, workspace) or not _must_match(params.get("thinking"), batch=batch):
            continue
        if block["signature"] != _signature(model_id, workspace, _prefix(params, at)):
            raise invalid(OTHER_PREFIX.format(place=where))


def _must_match(thinking: dict[str, Any] | None, *, batch: bool) -> bool:
    # A batch drops what does not match unless asked to fail; a direct call fails unless asked to drop.
    binding = ((thinking or {}).get("block_binding") or {}).get("prefix_mismatch_behavior")
    return binding == "error" if batch else binding != "drop_block"


def _signature(model_id: str, workspace: str, prefix: bytes) -> str:
    said = "|".join((model_id, workspace, blake2b(prefix, digest_size=16).hexdigest()))
    seal = blake2b(said.encode(), digest_size=8, key=b"emulator").hexdigest()
    return b64encode(f"{said}|{seal}".encode()).decode()


def _signer(signature: object, where: str) -> tuple[str, str]:
    try:
        said, _, seal = b64decode(str(signature), validate=True).decode().rpartition("|")
        model_id, workspace, _ = said.split("|")
    except ValueError:
        raise _malformed(where) from None
    if seal != blake2b(said.encode(), digest_size=8, key=b"emulator").hexdigest():
        raise _malformed(where)
    return model_id, workspace


def _malformed(where: str) -> Problem:
    return invalid(MALFORMED.format(place=where))


def _prefix(params: dict[str, Any], messages: int) -> bytes:
    return _bare(orjson.dumps((params.get("system"), params.get("tools")))) + _unmarked(
        orjson.dumps(params["messages"][:messages])
    )


@lru_cache(maxsize=256)
def _bare(shared: bytes) -> bytes:
    # A job's rows have these parts in common: a digest of them is made once.
    return blake2b(_unmarked(shared), digest_size=16).digest()


def _unmarked(part: bytes) -> bytes:
    """Without cache marks, which are no part of what was said."""
    return CACHE_MARK.sub(b"", part) if b'"cache_control"' in part else part
