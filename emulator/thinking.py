"""Thinking blocks: empty text and a signature that binds it to account, model and everything said before.

The signature proves nothing to anybody but the emulator, which is all it is for.
"""

import re
from base64 import b64decode, b64encode
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson

from emulator.conversation import blocks
from emulator.models import Model
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


class Heard(NamedTuple):
    """A request without the thinking that its model does not see, and where that stood and why it was dropped."""

    params: dict[str, Any]
    dropped: list[dict[str, str]]


def thinking_block(params: dict[str, Any], model_id: str, workspace: str) -> dict[str, str]:
    """Return the block that opens a reply to this request."""
    signature = _signature(model_id, workspace, _prefix(params, len(params["messages"])))
    return {"type": "thinking", "thinking": "", "signature": signature}


def heard(params: dict[str, Any], model: Model, workspace: str, *, batch: bool) -> Heard:
    """What the model hears of a request; refuses thinking that comes back changed, or after other words than before.

    Blocks of other accounts, and of models it cannot read, are dropped without a word. So are, in a batch or if a call
    asks for it, those that were thought after other words; a direct call is refused for them.
    """
    messages = params["messages"]
    if len(messages) == 1:
        return Heard(params, [])
    latest = max((at for at, message in enumerate(messages) if message["role"] == "assistant"), default=0)
    dropped: dict[tuple[int, int], str] = {}
    for at, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        for place, block in enumerate(blocks(message)):
            if block["type"] != "thinking":
                continue
            if at == latest and block.get("thinking"):
                raise invalid(MODIFIED.format(place=f"messages.{at}.content.{place}"))
            if reason := _unfit(params, model, workspace, (at, place), batch=batch):
                dropped[at, place] = reason
    if not dropped:
        return Heard(params, [])
    kept = [
        {**message, "content": [each for place, each in enumerate(blocks(message)) if (at, place) not in dropped]}
        for at, message in enumerate(messages)
    ]
    told = [
        {"type": "thinking_dropped", "path": f"messages.{at}.content.{place}", "reason": reason}
        for (at, place), reason in dropped.items()
    ]
    return Heard({**params, "messages": kept}, told)


def _unfit(params: dict[str, Any], model: Model, workspace: str, at: tuple[int, int], *, batch: bool) -> str | None:
    """Why a block is dropped; None if it is heard."""
    block = params["messages"][at[0]]["content"][at[1]]
    place = f"messages.{at[0]}.content.{at[1]}"
    signer, account = _signer(block.get("signature"), place)
    if account != workspace:
        return "organization_binding_mismatch"
    if signer != model.id:
        return None if signer in model.reads else "model_binding_mismatch"
    if not model.binds_prefix or block["signature"] == _signature(signer, account, _prefix(params, at[0])):
        return None
    if _must_match(params.get("thinking"), batch=batch):
        raise invalid(OTHER_PREFIX.format(place=place))
    return "prefix_binding_mismatch"


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
