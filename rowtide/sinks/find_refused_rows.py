"""Find the rows that a sink refuses, by halving a page that failed; tell them from a sink that takes nothing."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from rowtide.errors import UserMistake
from rowtide.masking import mask_secrets
from rowtide.sinks.columns import SinkPage, rows_of_page

ALIKE = 20  # rows refused alike from the first on: it is not the rows
OF_ONE_ROW = re.compile(r"'[^']*'|\"[^\"]*\"|\([^)]*\)|\d+")  # what differs between the same words of two rows
NO_SUCH_VALUE = (ValueError, TypeError, ArithmeticError)  # of a conversion: the column cannot hold what stands there


class RowsRefused(Exception):
    """A sink refuses some rows of a page, with its reason, and has kept nothing of the page."""


@dataclass
class RowByRowWriter:
    """Writes pages to a sink, and splits a page that fails."""

    write: Callable[[SinkPage], None]
    """Leaves no trace of a page that it refuses."""
    sink: str
    has_taken: bool
    """Whether the sink has taken any row of this run, now or earlier."""
    refused: dict[int, str] = field(default_factory=dict)

    def page(self, page: SinkPage) -> dict[int, str]:
        """Write a page; if the sink refuses it, write its halves, and theirs, so that only the rows at fault are left
        out. Returns place in the page → why. Raises UserMistake when the first rows are all refused for one reason.
        """
        self.refused = {}
        if page:
            self._write(page, 0)
        return self.refused

    def _write(self, page: SinkPage, first: int) -> None:
        """Write some rows, the first of which stands at `first` in the page."""
        try:
            self.write(page)
            self.has_taken = True
        except (RowsRefused, *NO_SUCH_VALUE) as error:
            if len(page) > 1:
                middle = len(page) // 2
                self._write(rows_of_page(page, range(middle)), first)
                self._write(rows_of_page(page, range(middle, len(page))), first + middle)
                return
            self.refused[first] = mask_secrets(str(error)) or type(error).__name__
            if not self.has_taken and len(self.refused) == ALIKE:
                check_some_taken(list(self.refused.values()), ALIKE, self.sink)


def check_some_taken(refused: Collection[str], rows: int, sink: str) -> None:
    """Raise UserMistake when all of these rows (more than one) were refused for one reason: the sink is at fault."""
    if 1 < rows == len(refused) and len({OF_ONE_ROW.sub("…", each) for each in refused}) == 1:
        raise UserMistake(
            f"it refuses every row, so nothing is loaded and no row is quarantined: {next(iter(refused))}. "
            "Mend what is written to, or the job's `sink`, and resume the run",
            file=sink,
        )
