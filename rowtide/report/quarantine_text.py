"""Text about why rows of a run are in quarantine, with the commands that go on from there."""

from collections.abc import Mapping
from typing import Any

from rowtide.quarantine.cause_groups import named_rows
from rowtide.text_format import shorten_text

CAUSES_SHOWN = 3


def quarantine_lines(found: Mapping[str, Any]) -> list[str]:
    """Return why rows are in quarantine, by cause with some keys, and what lists them."""
    lines = [f"quarantined  {each}" for each in quarantined_before_lines(found)]
    if found["reasons"]:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in found["reasons"].items())
        lines.append(f"quarantined  {reasons}: rowtide quarantine list {found['run_id']}")
    for each in found.get("causes", [])[:CAUSES_SHOWN]:
        keys = named_rows(each["row_keys"], each["rows"])
        such_as = "such as " if each["rows"] > 1 else ""
        lines.append(f"         {each['rows']:,} × {such_as}{shorten_text(each['example'], 100)} ({keys})")
    if found["bounces"]:
        lines.append("sent again " + ", ".join(f"{count:,} {reason}" for reason, count in found["bounces"].items()))
    return lines


def quarantined_before_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the unchanged rows that were never verified, and how to verify them."""
    return [
        f"{rows:,} of the {found['unchanged']:,} unchanged rows are in quarantine since run {run_id}, and were not "
        f"asked again: `rowtide quarantine list {run_id}` says why; `rowtide quarantine retry {run_id} --all`, then "
        f"`rowtide resume {run_id}`, asks them"
        if run_id
        else f"{rows:,} of the {found['unchanged']:,} unchanged rows were quarantined by an earlier run"
        for run_id, rows in found["quarantined_in"].items()
    ]
