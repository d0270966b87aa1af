"""Direct calls, without HTTP: messages and token counts, validated, rate-limited, answered and billed."""

from threading import RLock
from typing import Any, NamedTuple

import orjson

from emulator.clock import Clock
from emulator.connector import Talk, converse
from emulator.habits import Temper, as_json
from emulator.identifiers import derived_id, fingerprint, fresh_id
from emulator.known_answers import KnownAnswers
from emulator.limits import RateLimits
from emulator.models import Model
from emulator.prompt_cache import PromptCache
from emulator.replies import Occasion, reply
from emulator.settings import SettingsBook
from emulator.shelf import Shelf
from emulator.thinking import heard
from emulator.tokens import Prefix, cached_prefix, input_tokens
from emulator.validation import check_params

GRAINS = 1 << 20


class Answered(NamedTuple):
    message: dict[str, Any]
    seconds: float
    """How long it takes, from the call to its last word."""
    headers: dict[str, str]
    """What remains of the account's rates."""


class DirectCalls:
    def __init__(
        self,
        shelf: Shelf,
        cache: PromptCache,
        clock: Clock,
        settings: SettingsBook,
        lock: RLock,
        seed: int,
        known: KnownAnswers,
    ) -> None:
        self._shelf, self._cache, self._clock, self._settings, self._seed = shelf, cache, clock, settings, seed
        self._known = known
        self.limits = RateLimits(clock, settings)
        # Whoever creates batches holds it too while it looks at the prompt cache.
        self._lock = lock

    def answer(self, workspace: str, params: dict[str, Any], version: str, betas: tuple[str, ...] = ()) -> Answered:
        model = check_params(params, version, betas)
        seen = heard(params, model, workspace, batch=False)
        prefix = cached_prefix(params)
        needed, creates = self._let_in(workspace, model, input_tokens(seen.params), prefix)
        settings = self._settings.of(workspace)
        temper = Temper(settings.hardness, as_json(settings.habits), self._clock.now(), self._known)
        occasion = Occasion(workspace, derived_id("call", fresh_id("call")), False, temper, betas)
        talk = Talk(seen.params, model.tier, occasion.identity, temper)
        message = reply(
            params,
            model,
            occasion,
            seen=seen,
            prefix=prefix,
            creates_cache=creates,
            thought=converse(talk) if params.get("mcp_servers") else None,
        )
        used = message["usage"]
        fresh = used["input_tokens"] + used["cache_creation_input_tokens"]
        self.limits.spend(workspace, model, input_tokens=fresh - needed, output_tokens=used["output_tokens"])
        self._shelf.keep_direct(workspace, message, is_stream=bool(params.get("stream")))
        seconds = self._drawn(params, settings.reply_seconds)
        return Answered(message, seconds, self.limits.headers(workspace, model))

    def count(
        self, workspace: str, params: dict[str, Any], version: str, betas: tuple[str, ...] = ()
    ) -> tuple[int, dict[str, str]]:
        """The input tokens that this request would be billed for, cached or not; and the headers."""
        model = check_params(params, version, betas, counting=True)
        seen = heard(params, model, workspace, batch=False)
        self.limits.admit(workspace, model, count_tokens=1)
        return input_tokens(seen.params), self.limits.headers(workspace, model, ("count_tokens",))

    def _let_in(self, workspace: str, model: Model, total: int, prefix: Prefix | None) -> tuple[int, bool]:
        """How much fresh input the call has, and whether it is the one that has its prefix cached; or a refusal."""
        with self._lock:
            now = self._clock.now()
            creates = prefix is not None and not self._cache.holds(workspace, prefix, now)
            needed = total if prefix is None or creates else total - min(prefix.tokens, total)
            self.limits.admit(workspace, model, requests=1, input_tokens=needed, output_tokens=0)
            if prefix:
                self._cache.touch(workspace, [prefix], now)
        return needed, creates

    def _drawn(self, params: dict[str, Any], bounds: tuple[float, float]) -> float:
        """The same for the same request, whenever it is made."""
        low, high = bounds
        if high == 0:
            return 0.0
        said = orjson.dumps((params["model"], params["messages"])).decode()
        return low + (high - low) * (fingerprint(str(self._seed), said, "seconds") % GRAINS) / GRAINS
