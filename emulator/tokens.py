"""Count the tokens of a request, and find the prefixes a prompt cache may hold.

A token is four bytes of JSON. Only the last `cache_control` mark within tools and system is counted as a cached prefix;
marks in messages are allowed and checked, but their text is always billed as fresh input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import orjson

LEAST_CACHEABLE_TOKENS = 512
TTL_SECONDS = {"5m": 300, "1h": 3600}


@dataclass(frozen=True, slots=True)
class Prefix:
    key: str
    tokens: int
    ttl: str


def input_tokens(params: dict[str, Any]) -> int:
    """Return the tokens of the whole prompt, cached or not."""
    output = params.get("output_config") or {}
    parts = (params.get("system"), params.get("tools"), output.get("format"), params["messages"])
    return sum(text_tokens(part) for part in parts if part)


def text_tokens(part: object) -> int:
    return -(-len(orjson.dumps(part)) // 4)


def cached_prefix(params: dict[str, Any]) -> Prefix | None:
    """Return the part of the prompt up to the last cache mark, if it is long enough to be cached."""
    tools, system = params.get("tools") or [], params.get("system")
    blocks = system if isinstance(system, list) else []
    marked = [at for at, block in enumerate(blocks) if block.get("cache_control")]
    if marked:
        mark, kept = blocks[marked[-1]]["cache_control"], (tools, blocks[: marked[-1] + 1])
    else:
        marked = [at for at, tool in enumerate(tools) if tool.get("cache_control")]
        if not marked:
            return None
        mark, kept = tools[marked[-1]]["cache_control"], (tools[: marked[-1] + 1], [])
    return _prefix(orjson.dumps((params["model"], *kept)), mark.get("ttl") or "5m")


@lru_cache(maxsize=256)
def _prefix(content: bytes, ttl: str) -> Prefix | None:
    tokens = -(-len(content) // 4)
    if tokens < LEAST_CACHEABLE_TOKENS:
        return None
    return Prefix(f"{blake2b(content, digest_size=12).hexdigest()}-{ttl}", tokens, ttl)


def usage(
    prompts: Sequence[dict[str, Any]], output: int, prefix: Prefix | None, *, creates: bool, batch: bool
) -> dict[str, Any]:
    """The `usage` block of a message. Every step reads its prompt; the first may create what the others have cached."""
    totals = [input_tokens(prompt) for prompt in prompts]
    cached = [min(prefix.tokens, total) if prefix else 0 for total in totals]
    created = {f"ephemeral_{ttl}_input_tokens": 0 for ttl in TTL_SECONDS}
    if prefix and creates:
        created[f"ephemeral_{prefix.ttl}_input_tokens"] = cached[0]
    return {
        "input_tokens": sum(totals) - sum(cached),
        "cache_creation_input_tokens": cached[0] if creates else 0,
        "cache_read_input_tokens": sum(cached[1:] if creates else cached),
        "cache_creation": created,
        "output_tokens": output,
        "service_tier": "batch" if batch else "standard",
        "inference_geo": "not_available",
    }
