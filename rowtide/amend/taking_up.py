"""Rows that are to be asked, put on the version that their run goes on under."""

import orjson

from rowtide.ledger import ledger_prefixes, ledger_turns, ledger_versions
from rowtide.ledger.ledger import take_turn
from rowtide.work import SPOOL_PAGE, Clock, Work


def take_up(work: Work, *, clock: Clock) -> int:
    """Put every ready row on the run's present version, page by page. Returns how many were not.

    It is done before anything is sent: rows are asked as they come up, whatever brought them back, and a life that dies
    in between leaves the rest to the next. A run that was not amended has nothing to look for.
    """
    moved = 0
    while work.run.version_no:
        with work.ledger.page() as tx:
            take_turn(tx, f"versions {work.run.run_no}")
            rows = ledger_versions.left_behind(tx, work.run, limit=SPOOL_PAGE)
            if not rows:
                break
            afresh = [row_no for row_no, version_no in rows if version_no in work.earlier_versions]
            others = [row_no for row_no, version_no in rows if version_no not in work.earlier_versions]
            ledger_versions.go_on_under(tx, work.run, others)
            ledger_versions.begin_under(tx, work.run, afresh, now=clock())
            if afresh and work.job.spec.skills.group_by is not None:
                contents = ledger_turns.contents(tx, afresh)
                groups = {row_no: work.job.group_of(orjson.loads(content)) for row_no, content in contents.items()}
                ledger_prefixes.assign(tx, work.run, work.job, groups)
            moved += len(rows)
    return moved
