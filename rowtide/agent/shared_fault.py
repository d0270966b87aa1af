"""Decides whether unforeseen errors are the rows' own fault or everyone's: a pure function of the outcomes.

When the first rows of a batch, or the first live calls, all fail alike and none succeeds, the account, the job or this
program is at fault rather than a row. So the run stops, with its rows unharmed. Alike means the same words, except ids
and numbers. Errors that one row can cause by itself, such as a prompt that is too long, never count.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import NamedTuple

from rowtide.agent.account_refusals import OF_THE_ROW

FEWEST = 2  # of a run that has no more rows, none of which ever succeeded: one row alone proves nothing

_VARIES = re.compile(r"[\w.:/-]*\d[\w.:/-]*")  # a word with a digit in it: an id, a place, a number


Group = tuple[int, int]  # (index of the model that was asked, prefix_no)


class FailedRow(NamedTuple):
    """A row that is about to be quarantined for the API's error."""

    row_no: int
    about: Group
    """The group of rows it belongs to."""
    message: str


def error_signature(message: str) -> str:
    """Return an error's words without what differs from row to row."""
    return " ".join(_VARIES.sub("#", message).lower().split())


def rows_failed_by_shared_fault(
    failed: Iterable[FailedRow],
    answered: Collection[Group],
    ever_answered: Collection[Group],
    *,
    enough: int,
) -> list[FailedRow]:
    """Return those of `failed` whose error is shared by all rows of their group, so that the rows are not at fault.

    `answered` are the groups (`FailedRow.about`) with an answered row on the same page, `ever_answered` those with one
    at any time in this run. With `enough` 0, no error is shared.
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
