"""Prefixes of requests: what stands before a row's own message, one for each set of skills.

Prefixes are numbered in the order in which the source's rows first need them, inside the transaction that admits the
page, so the same source gives the same numbers however often a process dies. A prefix never changes.
"""

from collections.abc import Callable, Mapping, Sequence

import orjson
from sqlalchemy import Connection, text

from rowtide.agent.requests import with_skills
from rowtide.job.skills import Skill
from rowtide.ledger.ledger import Run

FOR_ALL = 0  # the prefix of rows whose group has no skills of its own


def create_first_prefix(tx: Connection, run: Run, skills: Sequence[str]) -> None:
    """Store the run's first prefix, which all its rows share. Repeating it changes nothing."""
    _add(tx, run, FOR_ALL, skills, run.request, " ON CONFLICT (run_no, prefix_no) DO NOTHING")


def assign_prefixes(
    tx: Connection,
    run: Run,
    groups: Mapping[int, str | None],
    *,
    skills_for: Callable[[str | None], Sequence[Skill]],
    instructions: str,
) -> None:
    """Give each ready row among `groups` (row_no → group) its group's prefix, and store new prefixes.

    `skills_for` gives a group's skills; `instructions` are what all rows are told.

    Call it in the transaction that admitted these rows: it keeps other processes out.
    """
    if not groups:
        return
    ready = {row_no: groups[row_no] for row_no in _ready(tx, run, min(groups), max(groups))}
    written = skills_by_prefix(tx, run)
    # A version's own prefixes begin at its base; earlier ones belong to versions that ask otherwise.
    numbers = {skills: prefix_no for prefix_no, skills in written.items() if prefix_no >= run.base_prefix}
    base = run.request if run.base_prefix == FOR_ALL else prefix_contents(tx, run)[run.base_prefix]
    prefix_of: dict[str | None, int] = {}
    for group in dict.fromkeys(ready.values()):
        skills = skills_for(group)
        names = tuple(skill.name for skill in skills)
        if names not in numbers:
            numbers[names] = len(numbers) + run.base_prefix
            _add(tx, run, numbers[names], names, with_skills(base, instructions, skills))
        prefix_of[group] = numbers[names]
    given = [
        {"row": row_no, "prefix": prefix_of[group]}
        for row_no, group in ready.items()
        if prefix_of[group] != run.base_prefix
    ]
    if given:
        tx.execute(text("UPDATE row SET prefix_no = :prefix WHERE row_no = :row"), given)


def prefix_contents(tx: Connection, run: Run) -> dict[int, bytes]:
    """Return every prefix of the run: prefix_no → the inside of a JSON object."""
    query = text("SELECT prefix_no, content FROM prefix WHERE run_no = :run")
    return dict(tx.execute(query, {"run": run.run_no}).tuples().all())


def skills_by_prefix(tx: Connection, run: Run) -> dict[int, tuple[str, ...]]:
    """Return the skills of every prefix of the run: prefix_no → skill names."""
    query = text("SELECT prefix_no, skills FROM prefix WHERE run_no = :run ORDER BY prefix_no")
    found = tx.execute(query, {"run": run.run_no}).tuples()
    return {prefix_no: tuple(orjson.loads(skills)) for prefix_no, skills in found}


def _ready(tx: Connection, run: Run, first: int, last: int) -> list[int]:
    query = text(
        "SELECT row_no FROM row WHERE run_no = :run AND state = 'ready' AND row_no BETWEEN :first AND :last "
        "ORDER BY row_no"
    )
    return list(tx.execute(query, {"run": run.run_no, "first": first, "last": last}).scalars())


def _add(tx: Connection, run: Run, prefix_no: int, skills: Sequence[str], content: bytes, when_there: str = "") -> None:
    insert = "INSERT INTO prefix (run_no, prefix_no, skills, content, version_no) "
    insert += "VALUES (:run, :prefix, :skills, :content, :version)"
    values = {"run": run.run_no, "prefix": prefix_no, "skills": orjson.dumps(list(skills)).decode(), "content": content}
    values["version"] = run.version_no
    tx.execute(text(insert + when_there), values)
