"""Makes a process a worker of a run, alone or among others, renews its lease, and reaps dead workers."""

import asyncio
import secrets
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import Literal

from rowtide import clock
from rowtide.ledger import claims as ledger_claims
from rowtide.ledger import leases as ledger_leases
from rowtide.ledger.claims import Worker
from rowtide.ledger.engine import LedgerUnavailable
from rowtide.ledger.ledger import Ledger
from rowtide.observing.event_log import logger
from rowtide.observing.supervision import Background, supervise_thread

LOOK_AGAIN_SECONDS = 0.5

WATCH = ledger_leases.LeaseWatch()  # this process's observations of others' leases

How = Literal["alone", "alone if free", "with others"]

log = logger(__name__)


@asynccontextmanager
async def worker_of(ledger: Ledger, run_id: str, how: How) -> AsyncGenerator[Worker]:
    """Be a worker of a run for the length of the block."""
    me = ledger_leases.new_lease_holder(secrets.token_hex(4))
    is_alone = await _join(ledger, run_id, me, how)
    over = threading.Event()
    # A thread, because a stage may keep the event loop busy for longer than a lease.
    renewal = Background(
        f"the lease renewer of run {run_id}",
        "the lease runs out a minute after its last renewal: then another process may take the run over, and this one "
        "commits nothing more",
    )
    renew = partial(_renew, ledger, run_id, me, over, renewal)
    # In our context, so that Prefect shows the thread's log on this run's page.
    renewing = threading.Thread(target=copy_context().run, args=(supervise_thread, renewal, renew, over), daemon=True)
    renewing.start()
    guards = [ledger_claims.check_still_worker, *([ledger_leases.check_lease] if is_alone else [])]
    ledger.guards += [partial(guard, run_id=run_id, me=me) for guard in guards]
    try:
        yield Worker(me, is_alone)
    finally:
        over.set()
        renewing.join()
        ledger.guards.clear()
        with suppress(LedgerUnavailable), ledger.page(waits=False) as tx:  # else the lease runs out by itself
            ledger_leases.release_lease(tx, run_id, me)
            ledger_claims.leave_run(tx, me)


async def _join(ledger: Ledger, run_id: str, me: str, how: How) -> bool:
    """Become a worker; with "alone", wait for the lease. Returns whether this process holds it."""
    waits_for, run_out = None, WATCH.has_run_out
    while True:
        reap_dead(ledger, run_id, me)
        now = clock.now()
        with ledger.page() as tx:
            other = (
                None if how == "with others" else ledger_leases.take_lease(tx, run_id, me, now=now, has_run_out=run_out)
            )
            if other is None or how != "alone":
                ledger_claims.join_run(tx, run_id, me, now=now)
                return how != "with others" and other is None
        if other != waits_for:
            log.warning("run %s is being worked on by %s; this process waits until it is free", run_id, other)
        waits_for = other
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


def reap_dead(ledger: Ledger, run_id: str, me: str) -> None:
    """Free what dead workers of a run had claimed. A worker never reaps itself."""
    now = clock.now()
    with ledger.view() as tx:
        dead = ledger_claims.dead_workers(tx, run_id, me, now=now, has_run_out=WATCH.has_run_out)
    for holder, until in dead:
        with ledger.page(is_guarded=False) as tx:  # it may have to wait, so it holds no lock
            if ledger_claims.reap_worker(tx, holder, until):
                log.warning("run %s: worker %s crashed; its claims are free", run_id, holder)


def _renew(ledger: Ledger, run_id: str, me: str, over: threading.Event, renewal: Background) -> None:
    while not over.wait(0 if renewal.is_failing else ledger_leases.RENEW_EVERY_SECONDS):
        now = clock.now()
        with ledger.page(is_guarded=False, waits=False) as tx:
            ledger_claims.renew_worker(tx, me, now=now)
            ledger_leases.renew_lease(tx, run_id, me, now=now)
        renewal.succeeded()
        reap_dead(ledger, run_id, me)
