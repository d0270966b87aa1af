"""Text about a version that runs, or is held, without a passing verdict: who allowed it, and why."""

from collections.abc import Mapping
from typing import Any

from rowtide.escaping import Markdown, escape_markdown, markdown_bold, markdown_page


def override_lines(found: Mapping[str, Any]) -> list[str]:
    """Who let a run go ahead without a passing verdict, and why."""
    return [
        f"override {each['who']} let version {each['version']} of the job run without a passing eval: {each['why']} "
        f"({each['decided_at'][:19]} UTC)"
        for each in found["overrides"]
    ]


def version_approval_text(job: str, refusal: str) -> Markdown:
    """What a person is asked about a version that may not run, and what follows from each decision."""
    return markdown_page(
        markdown_bold(f"{job} is held: its version has no passing eval."),
        escape_markdown(refusal),
        escape_markdown(
            "run: it runs as it is now; your name and reason stand in the ledger, in the report of each run and on the "
            "page of the eval. stop: nothing is begun, and nobody is asked about this version again."
        ),
    )
