"""The table of lanes, the ways by which a turn reaches the model, and how they differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

LaneName = Literal["batch", "live", "stream", "sequential"]
AskedLane = Literal["auto", LaneName]
"""What a person may ask for; `auto` decides and says why."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One way to the model. Outside batches, a turn is a live call of this process."""

    name: LaneName
    in_batches: bool = False
    """Whether turns wait in the API's batches, at the batch price, or are live calls."""
    in_order: bool = False
    """Whether a row waits for the row it comes after, and sees earlier rows' answers."""
    shows_words: bool = False
    """Whether a watcher sees the model's text while it is written."""

    @property
    def cache_hits(self) -> tuple[float, float]:
        """The lowest and the highest share of a prefix that is assumed to be read from the cache."""
        # Batches: hit rates that users see (platform.claude.com, batch processing). Live: only the first calls miss.
        return (0.30, 0.98) if self.in_batches else (0.90, 1.0)

    def price_share(self, batch_share: Decimal) -> Decimal:
        """Return the share of a model's live price that a turn costs; `batch_share` is a batch's."""
        return batch_share if self.in_batches else Decimal(1)


BATCH = Lane("batch", in_batches=True)
LIVE = Lane("live")
STREAM = Lane("stream", shows_words=True)
SEQUENTIAL = Lane("sequential", in_order=True)

LANES: Mapping[str, Lane] = {lane.name: lane for lane in (BATCH, LIVE, STREAM, SEQUENTIAL)}
