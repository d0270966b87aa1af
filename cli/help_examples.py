"""Examples for `--help`: what a person types most, each of which is parsed by a test."""

from cli.exits import TABLE

EXAMPLES: dict[str, list[tuple[str, str]]] = {
    "new": [
        ("rowtide new tickets --from export.csv", "a job out of a table; asks three things"),
        (
            "rowtide new tickets --from export.xlsx --question 'What is it about?' "
            "--fields 'topic: billing|delivery, due?: date'",
            "asks for the key alone",
        ),
        (
            "rowtide new orders --from 'SELECT * FROM orders ORDER BY id' --database '${DATABASE_URL}' --key id --yes",
            "rows of a database; asks nothing",
        ),
    ],
    "run": [
        ("rowtide run complaints --limit 20", "the first rows; later runs leave them unchanged"),
        ("rowtide run complaints --budget 5", "never more than $5, at worst"),
        ("rowtide run complaints --source today.csv --finish-within 60", "another file, done within the hour"),
        ("rowtide run complaints --json | jq .cost_usd", "for a program"),
    ],
    "plan": [("rowtide plan complaints", "what a run would cost and take, and what is wrong with the job")],
    "resume": [
        ("rowtide resume complaints-1128-101414-c5c2", "from the last committed row"),
        ("rowtide resume complaints-1128-101414-c5c2 --budget 10", "after it stopped at its budget"),
    ],
    "amend": [("rowtide amend complaints-1128-101414-c5c2", "take a mended prompt or check into a run that has begun")],
    "show": [
        ("rowtide show K1009", "turns, tool calls, corrections, answer and cost of one row"),
        ("rowtide show K1009 --run complaints-1128-101414-c5c2", "in that run"),
    ],
    "results": [
        ("rowtide results complaints", "a table of the answers"),
        ("rowtide results complaints --to answers.parquet", "all of them, by the file's ending"),
    ],
    "report": [("rowtide report --open", "the newest run as a page")],
    "quarantine": [
        ("rowtide quarantine list", "why rows of the newest run are there"),
        ("rowtide quarantine export complaints-1128-101414-c5c2 --to mend.csv", "as a sheet"),
        ("rowtide quarantine fix complaints-1128-101414-c5c2 mend.csv", "the mended sheet back"),
        ("rowtide quarantine retry complaints-1128-101414-c5c2 --all", "send them again, then resume"),
    ],
    "eval": [
        ("rowtide eval complaints --prompt new_prompt.md", "is the new prompt as good?"),
        ("rowtide eval complaints --tiers haiku --budget 2", "is the cheap tier alone as good?"),
        ("rowtide eval complaints --against main", "the folder as it is, against a git revision"),
    ],
    "label": [
        ("rowtide label complaints --to labels.csv", "a sheet of the rows worth labelling"),
        ("rowtide label complaints --import labels.csv", "labels become golden rows"),
    ],
    "doctor": [
        ("rowtide doctor complaints", "key, ledger, tools, gates, sink: what is wrong, and what to do"),
        ("rowtide doctor --live-probe", "does the real API answer as Rowtide expects?"),
    ],
    "approve": [("rowtide approve complaints-1128-101414-c5c2 --gates --why 'new product line'", "past its gates")],
    "purge": [("rowtide purge --older-than 90d", "what would be deleted; nothing is, yet")],
}
RUNS_A_JOB = frozenset({"run", "resume", "eval"})
FEW_STATUSES = "Exit status: 0 done, 2 a mistake in the command or a job; `rowtide --help` lists all of them."


def help_epilogue(command: str) -> str:
    """Return the examples of a command, and the exit statuses."""
    parts = [_examples(EXAMPLES[command])] if command in EXAMPLES else []
    return "\n\n".join([*parts, TABLE if command in RUNS_A_JOB else FEW_STATUSES])


def _examples(examples: list[tuple[str, str]]) -> str:
    lines = ["Examples:"]
    for command, purpose in examples:
        lines += [f"  {command}", f"      {purpose}"]
    return "\n".join(lines)
