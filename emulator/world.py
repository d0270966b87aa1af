"""The state of the emulated API, without HTTP: workspaces, their batches, what is cached and what was billed.

Batches are on the shelf and age by the clock. Answers are not kept: they are worked out from the requests whenever
results are read, and come out the same every time.
"""

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from threading import RLock
from typing import Any

import orjson

from emulator.batches import Batch
from emulator.clock import Clock
from emulator.envelope import parse_envelope
from emulator.faults import Drop, Faults, once
from emulator.identifiers import derived_id, fresh_id
from emulator.intake import Intake, accepted_row
from emulator.ledger import Bill, sum_of
from emulator.models import BY_NAME
from emulator.problems import Problem, invalid
from emulator.replies import reply
from emulator.shelf import Shelf
from emulator.thinking import check_thinking
from emulator.tokens import TTL_SECONDS, Prefix, cached_prefix
from emulator.validation import check_params


def workspace_of(api_key: str) -> str:
    """Every key is a workspace of its own."""
    return f"wrkspc_01{blake2b(api_key.encode(), digest_size=11).hexdigest()}"


class World:
    def __init__(
        self,
        data: Path | None = None,
        *,
        clock: Clock | None = None,
        batch_seconds: tuple[float, float] = (0.5, 2.0),
        queue_limit: int = 500_000,
        seed: int = 0,
    ) -> None:
        self._temporary = None if data else tempfile.TemporaryDirectory(prefix="emulator-")
        home = data or Path(self._temporary.name if self._temporary else "")
        home.mkdir(parents=True, exist_ok=True)
        self._shelf = Shelf(home)
        self.clock = clock or Clock()
        self.faults = Faults()
        self.calls: Counter[str] = Counter()
        """How often each `METHOD path` was called; ids in paths are written as `{id}`."""
        self._batch_seconds, self._queue_limit = batch_seconds, queue_limit
        self._random = random.Random(seed)
        self._lock = RLock()
        self._cached: dict[tuple[str, str], datetime] = {}
        self._bills: dict[str, Bill] = {}
        self._direct = Bill()
        self._accepted = 0

    def close(self) -> None:
        if self._temporary:
            self._temporary.cleanup()

    # Batches

    def accept(self, workspace: str, body: bytes | bytearray, version: str, betas: tuple[str, ...]) -> Batch:
        """Check a batch's envelope and keep it. It is on disk when this returns."""
        requests = parse_envelope(body)
        self._check_queue(workspace, len(requests))
        batch_id, row_count = fresh_id("msgbatch"), len(requests)
        intake = Intake(workspace, version, betas, self.faults)
        self._shelf.new_rows(workspace, batch_id, intake.lines(requests))
        return self._keep_new(batch_id, row_count, intake)

    def _keep_new(self, batch_id: str, row_count: int, intake: Intake) -> Batch:
        with self._lock:
            self._accepted += 1
            prefixes = intake.prefixes.items()
            batch = Batch(
                id=batch_id,
                workspace=intake.workspace,
                created_at=self.clock.now(),
                row_count=row_count,
                latency_seconds=self._random.uniform(*self._batch_seconds),
                seed=self._random.getrandbits(32),
                version=intake.version,
                ordinal=self._accepted,
                betas=intake.betas,
                errored=intake.errored,
                spoilt=intake.spoilt,
                cache_creators={key: row for key, (prefix, row) in prefixes if self._is_new(intake.workspace, prefix)},
            )
            self._shelf.keep(batch)
        return batch

    def find(self, workspace: str, batch_id: str) -> Batch:
        batch = self._shelf.find(workspace, batch_id)
        if batch is None or batch.deleted_at:
            raise Problem(404, f"Message Batch {batch_id} not found.")
        return batch

    def listed(self, workspace: str) -> list[Batch]:
        """A workspace's batches, newest first."""
        listed_since = self.clock.now() - timedelta(seconds=self.faults.list_lag_seconds)
        batches = self._shelf.batches(workspace)
        return [batch for batch in batches if not batch.deleted_at and batch.created_at <= listed_since]

    def cancel(self, workspace: str, batch_id: str) -> Batch:
        with self._lock:
            batch = self.find(workspace, batch_id)
            now = self.clock.now()
            if batch.has_ended(now):
                raise invalid(f"Message Batch {batch_id} has already ended and cannot be canceled.")
            if batch.cancel_initiated_at is None:
                batch = replace(batch, cancel_initiated_at=max(now, batch.created_at))
                self._shelf.keep(batch)
            return batch

    def delete(self, workspace: str, batch_id: str) -> None:
        batch = self.find(workspace, batch_id)
        now = self.clock.now()
        if not batch.has_ended(now):
            raise invalid("In progress batches cannot be deleted. Consider canceling the batch instead.")
        bill = self._bill_of(batch).lines
        with self._lock:
            self._shelf.keep(replace(batch, deleted_at=now, bill=bill, errored=(), spoilt={}))
            self._shelf.discard_rows(workspace, batch_id)

    def results(self, workspace: str, batch_id: str) -> Iterator[bytes]:
        """A line for every row, without the newline, each worked out when it is asked for."""
        batch = self.find(workspace, batch_id)
        now = self.clock.now()
        if not batch.has_ended(now) or batch.is_archived(now):
            raise Problem(404, f"Message Batch {batch_id} has no available results.")
        return self._result_lines(batch)

    def _result_lines(self, batch: Batch) -> Iterator[bytes]:
        bill = Bill()
        finished, ending = batch.finished_rows()
        order, errored = batch.order(), frozenset(batch.errored)
        rows = self._shelf.rows(batch)
        for place, row in enumerate(order):
            request = rows[row]
            if place >= finished:
                result: dict[str, Any] = {"type": ending}
            elif str(row) in batch.spoilt:
                result = dict(batch.spoilt[str(row)])
            else:
                result = self._row_result(batch, row, request, is_errored=row in errored)
            if "message" in result:
                bill.enter(result["message"])
            yield orjson.dumps({"custom_id": request["custom_id"], "result": result})
        self._bills[batch.id] = bill

    def _row_result(self, batch: Batch, row: int, request: dict[str, Any], *, is_errored: bool) -> dict[str, Any]:
        params = request["params"]
        try:
            if is_errored:
                accepted_row(params, batch.workspace, batch.version, batch.betas)
            prefix = cached_prefix(params)
            message = reply(
                params,
                BY_NAME[params["model"]],
                workspace=batch.workspace,
                identity=f"{batch.id}/{request['custom_id']}",
                prefix=prefix,
                creates_cache=prefix is not None and batch.cache_creators.get(prefix.key) == row,
                batch=True,
            )
        except Problem as problem:
            return {"type": "errored", "error": problem.row_error()}
        return {"type": "succeeded", "message": message}

    # For tests

    def batches_of(self, api_key: str) -> list[Batch]:
        """The batches made with a key, newest first."""
        return self.listed(workspace_of(api_key))

    def drop_next_create_reply(self, api_key: str) -> None:
        """Accept the next batch made with a key, and cut the connection instead of saying so."""
        self.faults.on_call = once("POST /v1/messages/batches", workspace_of(api_key), "after", Drop())

    # Direct calls

    def answer(self, workspace: str, params: dict[str, Any], version: str) -> dict[str, Any]:
        """The message that answers a direct call."""
        model = check_params(params, version)
        check_thinking(params, model.id, workspace, batch=False)
        prefix = cached_prefix(params)
        with self._lock:
            creates = prefix is not None and self._is_new(workspace, prefix)
        identity = derived_id("call", fresh_id("call"))
        message = reply(
            params, model, workspace=workspace, identity=identity, prefix=prefix, creates_cache=creates, batch=False
        )
        self._direct.enter(message)
        return message

    # Accounts

    def ledger(self) -> dict[str, Any]:
        """What was billed so far: per batch that has ended, for direct calls, and in all."""
        now = self.clock.now()
        everything = [batch for each in self._shelf.workspaces() for batch in self._shelf.batches(each)]
        bills = {batch.id: self._bill_of(batch) for batch in everything if batch.has_ended(now)}
        return {
            "batches": {batch_id: bill.view() for batch_id, bill in bills.items()},
            "direct": self._direct.view(),
            "total": sum_of([*bills.values(), self._direct]).view(),
            "calls": dict(self.calls),
        }

    def _bill_of(self, batch: Batch) -> Bill:
        if batch.bill is not None:
            return Bill(batch.bill)
        if batch.id not in self._bills:
            for _ in self._result_lines(batch):
                pass
        return self._bills[batch.id]

    def _check_queue(self, workspace: str, row_count: int) -> None:
        now = self.clock.now()
        waiting = sum(b.row_count for b in self._shelf.batches(workspace) if not b.deleted_at and not b.has_ended(now))
        if waiting + row_count > self._queue_limit:
            raise Problem(
                429,
                f"This request would exceed your organization's limit of {self._queue_limit:,} batch requests in the "
                "processing queue. Please try again later.",
                headers={"retry-after": "10"},
            )

    def _is_new(self, workspace: str, prefix: Prefix) -> bool:
        """Whether a prompt prefix has to be written to the cache now; it is there from now on."""
        now = self.clock.now()
        until = self._cached.get((workspace, prefix.key))
        self._cached[workspace, prefix.key] = now + timedelta(seconds=TTL_SECONDS[prefix.ttl])
        return until is None or until < now
