"""Draw the fate of a batch from the fault plan when the batch is accepted."""

from dataclasses import replace
from datetime import timedelta

from emulator.batches import Batch
from emulator.plan import Fate


def fated(batch: Batch, fate: Fate) -> Batch:
    if fate.seconds is not None:
        batch = replace(batch, latency_seconds=fate.seconds)
    if fate.canceled is not None:
        batch = replace(
            batch,
            cancel_initiated_at=batch.created_at + timedelta(seconds=batch.latency_seconds * fate.canceled),
            finished_share=fate.canceled,
        )
    if fate.expired is not None:
        batch = replace(batch, finished_share=fate.expired)
    return replace(
        batch,
        is_deleted_at_end=fate.deleted,
        is_archived_at_end=fate.archived,
        invisible_seconds=fate.invisible_seconds,
        has_partial_counts=fate.partial_counts,
    )
