"""Whether errors that nobody foresaw are the rows' own fault or everyone's: a pure function of what came back.

The first rows of a batch, or the first live calls, that all fail alike and none succeeds say more of the account, the
job or this program than of any row. So the run stops, and no row is the worse for it. Alike is: the same words, but for
ids and numbers. What one row can bring about by itself (a prompt that is too long) never counts.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import NamedTuple

from rowtide.agent.account_refusals import OF_THE_ROW

FEWEST = 2  # where a run has no more rows than so, and not one has ever succeeded: one alone says nothing

_VARIES = re.compile(r"[\w.:/-]*\d[\w.:/-]*")  # a word with a digit in it: an id, a place, a number


Group = tuple[int, int]  # the model that was asked, by its place, and the prefix, by its number


class FailedRow(NamedTuple):
    """A row that is about to be quarantined for what the API said of it."""

    row_no: int
    about: Group
    """What it shares with other rows."""
    message: str


def error_signature(message: str) -> str:
    """The words of an error without what differs from row to row."""
    return " ".join(_VARIES.sub("#", message).lower().split())


def rows_failed_by_shared_fault(
    failed: Iterable[FailedRow],
    answered: Collection[Group],
    ever_answered: Collection[Group],
    *,
    enough: int,
) -> list[FailedRow]:
    """Those of `failed` that failed for a reason of everyone's.

    `answered` are the groups (`Failed.about`) of which some row was answered beside them, `ever_answered` those of
    which one was at any time in this run. With `enough` 0, no error is everyone's.
    """
    groups = defaultdict[Group, dict[str, list[FailedRow]]](lambda: defaultdict(list))
    for each in failed:
        if enough and each.about not in answered and not OF_THE_ROW.search(each.message):
            groups[each.about][error_signature(each.message)].append(each)
    found: list[FailedRow] = []
    for about, alike in groups.items():
        fewest = FEWEST if len(alike) == 1 and about not in ever_answered else enough
        found += [each for rows in alike.values() if len(rows) >= min(fewest, enough) for each in rows]
    return found
