"""The state of the emulated API, without HTTP: workspaces, batches, caches and bills.

Batches are on the shelf and age by the clock. Answers are not kept: they are worked out from the requests whenever
results are read, and come out the same every time. Only those that took MCP servers are: the servers may say something
else next time.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Lock, RLock
from typing import Any

from emulator.batches import Batch
from emulator.clock import Clock
from emulator.direct import DirectCalls
from emulator.envelope import parse_envelope
from emulator.fates import fated
from emulator.faults import Faults
from emulator.habits import as_json
from emulator.identifiers import fresh_id, workspace_of
from emulator.intake import Intake
from emulator.known_answers import NONE_KNOWN, KnownAnswers
from emulator.ledger import Account, Bill, by_lane, sum_of
from emulator.problems import Problem, invalid
from emulator.prompt_cache import PromptCache
from emulator.results import result_lines
from emulator.settings import SettingsBook
from emulator.settling import settle
from emulator.shelf import Shelf


class World:
    def __init__(
        self,
        data: Path | None = None,
        *,
        clock: Clock | None = None,
        batch_seconds: tuple[float, float] = (0.5, 2.0),
        queue_limit: int = 500_000,
        seed: int = 0,
        settings: SettingsBook | None = None,
        known: KnownAnswers = NONE_KNOWN,
    ) -> None:
        self._temporary = None if data else tempfile.TemporaryDirectory(prefix="emulator-")
        home = data or Path(self._temporary.name if self._temporary else "")
        home.mkdir(parents=True, exist_ok=True)
        self._shelf = Shelf(home)
        self.clock = clock or Clock()
        self.faults = Faults(clock=self.clock)
        self.settings, self._known = settings or SettingsBook(), known
        self.calls: Counter[str] = Counter()
        """How often each `METHOD path` was called; ids in paths are written as `{id}`."""
        self._batch_seconds, self._queue_limit = batch_seconds, queue_limit
        self._random = random.Random(seed)
        self._lock, self._settling = RLock(), Lock()
        self._cache = PromptCache(home)
        self.direct = DirectCalls(self._shelf, self._cache, self.clock, self.settings, self._lock, seed, known)
        self._bills: dict[str, Bill] = {}
        self._accepted = 0

    def close(self) -> None:
        if self._temporary:
            self._temporary.cleanup()

    # Batches

    def accept(self, workspace: str, body: bytes | bytearray, version: str, betas: tuple[str, ...]) -> Batch:
        """Check a batch's envelope and store it. It is on disk when this returns."""
        requests = parse_envelope(body)
        self._check_queue(workspace, len(requests))
        batch_id, row_count = fresh_id("msgbatch"), len(requests)
        intake = Intake(workspace, version, betas, self.faults)
        self._shelf.new_rows(workspace, batch_id, intake.lines(requests))
        return self._keep_new(batch_id, row_count, intake)

    def _keep_new(self, batch_id: str, row_count: int, intake: Intake) -> Batch:
        with self._lock:
            self._accepted += 1
            now, settings = self.clock.now(), self.settings.of(intake.workspace)
            written = self._cache.touch(intake.workspace, [prefix for prefix, _ in intake.prefixes.values()], now)
            batch = Batch(
                id=batch_id,
                workspace=intake.workspace,
                created_at=now,
                row_count=row_count,
                latency_seconds=self._random.uniform(*self._batch_seconds),
                seed=self._random.getrandbits(32),
                version=intake.version,
                ordinal=self._accepted,
                betas=intake.betas,
                errored=intake.errored,
                spoilt=intake.spoilt,
                twists=intake.twists,
                hardness=settings.hardness,
                habits=as_json(settings.habits),
                connected=intake.connected,
                cache_creators={key: row for key, (_, row) in intake.prefixes.items() if key in written},
            )
            if fate := self.faults.aim.at_batch(intake.workspace):
                batch = fated(batch, fate)
            self._shelf.keep(batch)
        return batch

    def find(self, workspace: str, batch_id: str) -> Batch:
        """Return a batch. If it has ended, the calls that its rows wanted of MCP servers have been made."""
        return self._settled(self._look_up(workspace, batch_id))

    def _look_up(self, workspace: str, batch_id: str) -> Batch:
        batch = self._shelf.find(workspace, batch_id)
        now = self.clock.now()
        if batch is None or batch.is_deleted(now) or batch.is_invisible(now):
            raise Problem(404, f"Message Batch {batch_id} not found.")
        return batch

    def listed(self, workspace: str, lag_seconds: float = 0.0) -> list[Batch]:
        """Return a workspace's batches, newest first."""
        now = self.clock.now()
        listed_since = now - timedelta(seconds=lag_seconds)
        batches = self._shelf.batches(workspace)
        listed = [batch for batch in batches if not batch.is_deleted(now) and batch.created_at <= listed_since]
        return [self._settled(batch) for batch in listed]

    def cancel(self, workspace: str, batch_id: str) -> Batch:
        with self._lock:
            batch = self._look_up(workspace, batch_id)
            now = self.clock.now()
            if batch.has_ended(now):
                raise invalid(f"Message Batch {batch_id} has already ended and cannot be canceled.")
            if batch.canceled_at(now) is None:
                batch = replace(batch, cancel_initiated_at=max(now, batch.created_at), finished_share=None)
                self._shelf.keep(batch)
            return batch

    def delete(self, workspace: str, batch_id: str) -> None:
        batch = self.find(workspace, batch_id)
        now = self.clock.now()
        if not batch.has_ended(now):
            raise invalid("In progress batches cannot be deleted. Consider canceling the batch instead.")
        bill = self._bill_of(batch).lines
        with self._lock:
            self._shelf.keep(replace(batch, deleted_at=now, bill=bill, errored=(), spoilt={}, twists={}))
            self._shelf.discard_rows(workspace, batch_id)

    def results(self, workspace: str, batch_id: str) -> Iterator[bytes]:
        """Yield a line for every row, without the newline, each worked out when it is asked for."""
        batch = self.find(workspace, batch_id)
        now = self.clock.now()
        if not batch.has_ended(now) or batch.is_archived(now):
            raise Problem(404, f"Message Batch {batch_id} has no available results.")
        return self._result_lines(batch)

    def _result_lines(self, batch: Batch) -> Iterator[bytes]:
        bill = Bill()
        yield from result_lines(batch, self._shelf.rows(batch), self._shelf.kept_results(batch), bill, self._known)
        self._bills[batch.id] = bill

    def _settled(self, batch: Batch) -> Batch:
        """The batch with its rows that use MCP servers worked out: once, when it is first looked at after its end."""
        if not batch.connected or batch.is_settled or batch.deleted_at or not batch.has_ended(self.clock.now()):
            return batch
        with self._settling:
            known = self._shelf.find(batch.workspace, batch.id) or batch
            if known.is_settled or known.deleted_at:
                return known
            failed = settle(known, self._shelf, self._known)
            known = replace(known, is_settled=True, errored=[*known.errored, *failed])
            self._shelf.keep(known)
            return known

    # For tests

    def batches_of(self, api_key: str) -> list[Batch]:
        """Return the batches made with a key, newest first."""
        return self.listed(workspace_of(api_key))

    # Accounts

    def ledger(self) -> dict[str, Any]:
        """Return what was billed so far: for each ended batch, for direct calls, for each workspace, and in all."""
        accounts = [self._account(workspace) for workspace in self._shelf.workspaces()]
        bills = {batch_id: bill for account in accounts for batch_id, bill in account.batches.items()}
        return {
            "batches": {batch_id: bill.view() for batch_id, bill in bills.items()},
            "direct": sum_of(account.direct for account in accounts).view(),
            "workspaces": {account.workspace: account.view() for account in accounts},
            "total": sum_of(account.total() for account in accounts).view(),
            "by_lane": by_lane(accounts),
            "calls": dict(self.calls),
        }

    def bill_of(self, api_key: str) -> dict[str, Any]:
        """Return what one account was billed so far: in all, for direct calls, and for each ended batch."""
        account = self._account(workspace_of(api_key))
        bills = {batch_id: bill.view() for batch_id, bill in account.batches.items()}
        return account.view() | {"direct": account.direct.view(), "by_batch": bills}

    def _account(self, workspace: str) -> Account:
        now = self.clock.now()
        batches = self._shelf.batches(workspace)
        bills = {batch.id: self._bill_of(batch) for batch in batches if batch.has_ended(now)}
        whole, streamed = Bill(), Bill()
        for message in self._shelf.direct(workspace):
            (streamed if message.get("is_stream") else whole).enter(message)
        return Account(workspace, len(batches), bills, whole, streamed)

    def _bill_of(self, batch: Batch) -> Bill:
        if batch.bill is not None:
            return Bill(batch.bill)
        if batch.id not in self._bills:
            for _ in self._result_lines(self._settled(batch)):
                pass
        return self._bills[batch.id]

    def _check_queue(self, workspace: str, row_count: int) -> None:
        now = self.clock.now()
        waiting = sum(
            b.row_count for b in self._shelf.batches(workspace) if not b.is_deleted(now) and not b.has_ended(now)
        )
        if waiting + row_count > self._queue_limit:
            raise Problem(
                429,
                f"This request would exceed your organization's limit of {self._queue_limit:,} batch requests in the "
                "processing queue. Please try again later.",
                headers={"retry-after": "10"},
            )
