"""Publishes a run's report: artifacts of the orchestrator, and a line of the log."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rowtide.api.api_identity import REHEARSAL
from rowtide.escaping import markdown_page
from rowtide.observing.event_log import log_event
from rowtide.observing.run_labels import run_title
from rowtide.report.next_commands import contact_lines, rows_command, show_command, terminal_commands
from rowtide.report.report_text import headline, run_list_name
from rowtide.report.stop_text import stop_text
from rowtide.report.summary_text import summary_as_markdown
from rowtide.stages.orchestrator import current_orchestrator

LOGGED = (
    *("run_id", "job", "owner", "rows", "loaded", "quarantined", "unchanged", "held", "waiting"),
    *("cost_usd", "seconds", "reasons"),
)


async def publish_report(found: dict[str, Any], examples: Mapping[str, str], home: Path, *, is_elsewhere: bool) -> None:
    """Publish a run's summary: one text, tables to sort and search, and a line of the log.

    `examples` is one row's key for each reason; `is_elsewhere` says that the ledger is not a file in `home`.
    """
    run_id, page = found["run_id"], home / "reports" / f"{found['run_id']}.html"
    await current_orchestrator().name(run_title(found["job"], run_id, run_list_name(found)))
    block = terminal_commands(found, examples, home=_asked_home(home), ledger_is_elsewhere=is_elsewhere)
    text = markdown_page(summary_as_markdown(found), contact_lines(found, page if page.is_file() else None), block)
    about = f"Rowtide run {run_id}"
    await current_orchestrator().show_text(text, key="run-report", about=about)
    tables: dict[str, list[dict[str, Any]]] = {
        "run-tiers": [{"tier": name, **each} for name, each in found["tiers"].items()],
        "run-quarantined": [_quarantined(run_id, reason, rows, examples) for reason, rows in found["reasons"].items()],
        "run-tools": [{"tool": name, **each} for name, each in found["tools"].items()],
    }
    for key, table in tables.items():
        if table:
            await current_orchestrator().show_table(table, key=key, about=f"{about}: {key.removeprefix('run-')}")
    words = stop_text(found) if found["stopped"] else f"over: {headline(found)}"
    log_event("run_over", words, {name: found[name] for name in LOGGED}, is_warning=bool(found["stopped"]))


def _asked_home(home: Path) -> Path:
    """Return the ROWTIDE_HOME with which commands find the run: a rehearsal's home is found from the one above it."""
    return home.parent if REHEARSAL in os.environ else home


def _quarantined(run_id: str, reason: str, rows: int, examples: Mapping[str, str]) -> dict[str, Any]:
    commands = {"all of them": rows_command(run_id, reason)}
    commands |= {"one of them": show_command(run_id, examples[reason])} if reason in examples else {}
    return {"reason": reason, "rows": rows, **commands}
