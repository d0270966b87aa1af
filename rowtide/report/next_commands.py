"""The commands to type next about a run, each of which works as it is printed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rowtide.escaping import (
    NOTHING,
    Markdown,
    markdown_code,
    markdown_commands,
    markdown_named_parts,
    markdown_web_link,
    shell_word,
)
from rowtide.job.on_call import is_url

REASONS = 8  # of what was quarantined: those with the most rows


def rows_command(run_id: str, reason: str) -> str:
    """Return the command that prints the rows quarantined for a reason."""
    return f"rowtide quarantine export {run_id} --reason {shell_word(reason)}"


def show_command(run_id: str, row_key: str) -> str:
    """Return the command that tells the history of one row."""
    return f"rowtide show --row-key={shell_word(row_key)} --run {run_id}"


def terminal_commands(
    found: Mapping[str, Any], examples: Mapping[str, str], *, home: Path, ledger_is_elsewhere: bool
) -> Markdown:
    """Return a block of commands. `examples`: reason → a row's key, the most frequent reason first."""
    run_id = found["run_id"]
    lines = [
        f"export ROWTIDE_HOME={shell_word(str(home))}",
        *(["# and ROWTIDE_LEDGER as the workers have it"] if ledger_is_elsewhere else []),
        f"rowtide report {run_id}  # draws the report anew and says where it is",
    ]
    if examples:
        lines.append(f"rowtide quarantine list {run_id}  # why rows were quarantined, and what can be done")
    for reason, row_key in list(examples.items())[:REASONS]:
        lines.append(f"{rows_command(run_id, reason)}  # the {found['reasons'][reason]:,} rows with this reason")
        lines.append(f"{show_command(run_id, row_key)}  # the story of one of them")
    return markdown_commands(lines)


def contact_lines(found: Mapping[str, Any], report: Path | None) -> Markdown:
    """Return lines that name whom to call, and where the runbook and the report are."""
    owner, runbook = found["owner"], found["runbook"]
    return markdown_named_parts(
        owner=markdown_code(owner) if owner else NOTHING,
        runbook=(markdown_web_link if is_url(runbook) else markdown_code)(runbook) if runbook else NOTHING,
        report=markdown_code(report) if report else NOTHING,
    )
