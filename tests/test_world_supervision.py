"""Background threads and tasks outlive a race and a database error: they start again, are counted, and it is told."""

import asyncio
import logging
import threading

import pytest
from conftest import NOW, make_run, wait_until

from rowtide.ledger import leases as ledger_leases
from rowtide.ledger.ledger import Ledger
from rowtide.observing.supervision import Background, supervise, supervise_thread
from webhooks.prefect_notifier import Announcer
from webhooks.prometheus import ReceiverMetrics


def rename(ledger: Ledger, before: str, after: str) -> None:
    with ledger.page() as tx:
        tx.exec_driver_sql(f"ALTER TABLE {before} RENAME TO {after}")


async def test_the_announcer_outlives_a_database_that_fails(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    announcer = Announcer(ledger, 1000, 60)
    rename(ledger, "message_row", "away")
    working = asyncio.create_task(supervise(announcer.background, announcer.work))
    with caplog.at_level(logging.WARNING):
        await asyncio.to_thread(wait_until, lambda: announcer.background.restarts > 1)
    assert "the announcer failed" in caplog.text
    assert "Prefect is not told" in caplog.text
    rename(ledger, "away", "message_row")
    await asyncio.to_thread(wait_until, lambda: not announcer.background.is_failing)
    assert not working.done()
    working.cancel()
    text = ReceiverMetrics(ledger).text([announcer.background]).decode()
    assert f'rowtide_background_restarts{{background="the announcer"}} {announcer.background.restarts:.1f}' in text
    assert announcer.background.last_error
    assert "\n" not in announcer.background.last_error


def test_a_lease_is_renewed_again_after_the_database_failed(ledger: Ledger) -> None:
    make_run(ledger)
    me = ledger_leases.new_lease_holder("me")
    with ledger.page() as tx:
        assert ledger_leases.take_lease(tx, "run-1", me, now=NOW) is None
    over, renewed, background = threading.Event(), threading.Event(), Background("the renewer", "the lease runs out")

    def renew() -> None:
        with ledger.page() as tx:
            ledger_leases.renew_lease(tx, "run-1", me, now=NOW)
        renewed.set()
        over.wait()

    rename(ledger, "run", "away")
    thread = threading.Thread(target=supervise_thread, args=(background, renew, over))
    thread.start()
    wait_until(lambda: background.restarts > 1)
    rename(ledger, "away", "run")
    assert renewed.wait(60)
    over.set()
    thread.join()
