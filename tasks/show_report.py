"""What came of a run, where people look: artifacts of the orchestrator, and a line of the log."""

from typing import Any

from rowtide.observing.happenings import happened
from rowtide.observing.titles import title
from rowtide.orchestrator import orchestrator
from rowtide.report.report_words import headline
from rowtide.report.summary import as_markdown, stop_words

LOGGED = ("run_id", "job", "owner", "rows", "loaded", "quarantined", "unchanged", "held", "waiting", "cost_usd")
LOGGED += ("seconds", "reasons")


async def show_report(found: dict[str, Any]) -> None:
    """Show a run's summary: one text, tables of what a person sorts and searches, and a line of the log."""
    await orchestrator().name(title(found["job"], found["run_id"], headline(found)))
    about = f"Rowtide run {found['run_id']}"
    await orchestrator().show_text(as_markdown(found), key="run-report", about=about)
    tables: dict[str, list[dict[str, Any]]] = {
        "run-tiers": [{"tier": name, **each} for name, each in found["tiers"].items()],
        "run-set-aside": [{"reason": reason, "rows": count} for reason, count in found["reasons"].items()],
        "run-tools": [{"tool": name, **each} for name, each in found["tools"].items()],
    }
    for key, table in tables.items():
        if table:
            await orchestrator().show_table(table, key=key, about=f"{about}: {key.removeprefix('run-')}")
    words = stop_words(found) if found["stopped"] else f"over: {headline(found)}"
    happened("run_over", words, {name: found[name] for name in LOGGED}, is_trouble=bool(found["stopped"]))
