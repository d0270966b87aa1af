"""The prompt cache of each workspace: which prefixes are cached, and until when. It is kept on disk.

A workspace's file is replaced whole. Nothing is held in memory: another emulator on the folder may have changed it.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path

import orjson

from emulator.tokens import TTL_SECONDS, Prefix


class PromptCache:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def touch(self, workspace: str, prefixes: Collection[Prefix], now: datetime) -> set[str]:
        """Have these prefixes cached from now on; the keys of those that have to be written for it."""
        if not prefixes:
            return set()
        held = {key: until for key, until in self._read(workspace).items() if until >= now}
        fresh = {prefix.key for prefix in prefixes} - held.keys()
        for prefix in prefixes:
            held[prefix.key] = now + timedelta(seconds=TTL_SECONDS[prefix.ttl])
        file = self._file(workspace)
        new = file.with_suffix(".new")
        new.write_bytes(orjson.dumps(held))
        new.replace(file)
        return fresh

    def holds(self, workspace: str, prefix: Prefix, now: datetime) -> bool:
        until = self._read(workspace).get(prefix.key)
        return until is not None and until >= now

    def _read(self, workspace: str) -> dict[str, datetime]:
        try:
            kept = orjson.loads(self._file(workspace).read_bytes())
        except FileNotFoundError:
            return {}
        return {key: datetime.fromisoformat(until) for key, until in kept.items()}

    def _file(self, workspace: str) -> Path:
        return self._folder / f"{workspace}.cache"
