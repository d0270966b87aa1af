"""`rowtide amend RUN`: take the job's present files into a run that has begun."""

import asyncio
from pathlib import Path

import orjson

from cli.open_ledger import open_existing_ledger
from cli.output import out
from cli.shared_arguments import RunId, sign
from configuration.ledger_settings import LedgerSettings
from rowtide.ledger import ledger as ledgers
from rowtide.stages.amend.amend_run import Amendment, amend_run


def amend_(run: RunId, *, why: str = "", leave_quarantined: bool = False, dry_run: bool = False) -> int:
    """Take the job's files as they are now into a run that has begun, and keep what was paid for.

    Nothing is asked by this command. `rowtide resume RUN` goes on with the run afterwards. What has been accepted or
    loaded stays as it is. A reply that nobody has acted on is judged again under the new version, whichever version
    asked for it; only what fails is asked again. If what a row is asked has changed (prompt, answer schema, tools,
    skills), rows in the middle of a conversation begin afresh under the new version; if only what an answer is judged
    by has (checks, gates, limits), conversations go on. Replies that are still at the API are recorded as asked under
    the old version, and judged under the new one. The source, the key and the tiers of a run cannot be changed.

    Parameters
    ----------
    why
        Your reason; it stands in the report.
    leave_quarantined
        Leave all quarantined rows where they are. Without it, those with a reply are judged again; those without are
        sent again if what rows are asked has changed.
    dry_run
        Say what would become of how many rows, and do nothing.
    """
    with open_existing_ledger(run) as ledger:
        with ledger.view() as tx:
            found = ledgers.find_run(tx, run)
        folder, names = Path(found.job_folder), orjson.loads(found.tiers)
        tiers = [name for name in names if not name.endswith(" (check)")]
        plan = asyncio.run(LedgerSettings.from_environment().get_plan(folder, found.source_path, tiers))
        hand = sign()
        amended = amend_run(ledger, run, plan, hand, why, leaves_quarantine=leave_quarantined, is_dry=dry_run)
    if amended is None:
        out.print(f"run {run} has the job as it is now: nothing to amend")
        return 0
    out.lines(amendment_text(run, amended, is_dry=dry_run))
    return 0


def amendment_text(run: str, amended: Amendment, *, is_dry: bool) -> list[str]:
    """Return what an amendment does, a line for each number."""
    rows, number = amended.effects, amended.version_no
    what = (
        "how rows are asked" if amended.asks_anew else "how answers are judged; nothing is asked again but what fails"
    )
    talking = "begin afresh under" if amended.asks_anew else "go on with their conversation, judged under"
    counted = [
        (rows.kept, "accepted, loaded or unchanged", "stay as they are"),
        (rows.judged_again, "with a reply that nobody has acted on", f"judged under version {number}"),
        (rows.at_the_api, "at the API", f"recorded as asked under version {number - 1}, judged under version {number}"),
        (rows.in_conversation, "in the middle of a conversation", f"{talking} version {number}"),
        (rows.not_begun, "not asked yet", f"asked under version {number}"),
        (rows.held, "held", "wait for you as before"),
        (rows.quarantined_rejudged, "quarantined, with a reply", f"judged again under version {number}"),
        (rows.quarantined_resent, "quarantined, without one", f"asked under version {number}"),
        *((count, f"quarantined as {reason}", "stay in quarantine") for reason, count in rows.left.items()),
    ]
    does = "would go on" if is_dry else "goes on"
    return [
        f"run {run} {does} under version {number}: {', '.join(amended.changed)}",
        f"this changes {what}",
        *(f"  {count:>9,} {which}: {becomes}" for count, which, becomes in counted if count),
        f"amend it with: rowtide amend {run}" if is_dry else f"go on with: rowtide resume {run}",
    ]
