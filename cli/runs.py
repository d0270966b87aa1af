"""`rowtide runs`: list runs, newest first."""

from datetime import UTC, datetime
from typing import Any

from cli.numbers import Count
from cli.open_ledger import open_all_ledgers
from cli.output import out, plain_table, print_json
from configuration.model_overrides import model_overrides_from_environment
from rowtide.api.api_identity import describe_api
from rowtide.ledger.ledger import Run, all_runs
from rowtide.ledger.read.run_figures import read_run_figures
from rowtide.report.run_summary import run_summary
from rowtide.report.summary_text import ladder_problem_lines, unconfirmed_batch_lines
from rowtide.tiers.catalogue import load_catalogue

COLUMNS = ("rows", "loaded", "quarantined", "unchanged", "held", "waiting", "batches", "turns")


def runs(*, limit: Count = 20, json: bool = False) -> int:
    """List runs, newest first, with how their rows ended.

    Parameters
    ----------
    limit
        How many to list.
    json
        Print a JSON list on stdout.
    """
    catalogue = load_catalogue(model_overrides_from_environment())
    found: list[tuple[Run, dict[str, Any]]] = []
    for ledger in open_all_ledgers():
        with ledger.view() as tx:
            newest = all_runs(tx, limit=limit)
            figures = [read_run_figures(tx, run, now=datetime.now(UTC), catalogue=catalogue) for run in newest]
        found += zip(newest, map(run_summary, figures), strict=True)
    found = sorted(found, key=lambda each: each[0].started_at, reverse=True)[:limit]
    if json:
        print_json([each for _, each in found])
        return 0
    table = plain_table("run", "answered by", "started", "ended", numbers=(*COLUMNS, "cost"))
    for run, each in found:
        ended = run.finished_at[:19] if run.finished_at else f"stopped: {run.stopped}" if run.stopped else "not yet"
        counts = [f"{each[name]:,}" for name in COLUMNS]
        table.add_row(
            run.run_id,
            describe_api(run.api, is_made_up=bool(run.made_up)),
            run.started_at[:19],
            ended,
            *counts,
            f"${each['cost_usd']:.4f}",
        )
    out.print(table)
    out.lines([f"{run.run_id}  {line}" for run, each in found for line in ladder_problem_lines(each)])
    out.lines([line for _, each in found for line in unconfirmed_batch_lines(each)])
    return 0
