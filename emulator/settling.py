"""Work out the batch rows that use MCP servers, and store the servers' answers, so that no call is made twice."""

from typing import Any

from emulator.batches import Batch
from emulator.connector import Talk, converse_all
from emulator.habits import Temper
from emulator.known_answers import KnownAnswers
from emulator.minds import Thought
from emulator.models import BY_NAME
from emulator.problems import Problem
from emulator.results import identity_of, row_result
from emulator.shelf import Shelf
from emulator.thinking import heard


def settle(batch: Batch, shelf: Shelf, known: KnownAnswers) -> list[int]:
    """Make the calls that finished rows want of their servers. Returns the rows that failed, now or before an earlier
    process died.
    """
    temper = batch.temper(known)
    rows, kept = shelf.rows(batch), shelf.kept_results(batch)
    connected = set(batch.connected)
    finished, _ = batch.finished_rows()
    due = [row for row in batch.order()[:finished] if row in connected and row not in kept]
    requests = {row: rows[row] for row in due}
    row_of = {identity_of(batch, request): row for row, request in requests.items()}

    def tell(talk: Talk, outcome: Thought | Problem) -> None:
        row = row_of[talk.identity]
        if isinstance(outcome, Problem):
            result = {"type": "errored", "error": outcome.row_error()}
        else:
            result = row_result(batch, row, requests[row], temper, thought=outcome)
        kept[row] = result
        shelf.keep_result(batch, row, result)

    if due:
        converse_all([_talk(batch, request, temper) for request in requests.values()], tell)
    return sorted(row for row, result in kept.items() if result["type"] == "errored")


def _talk(batch: Batch, request: dict[str, Any], temper: Temper) -> Talk:
    params = request["params"]
    model = BY_NAME[params["model"]]
    seen = heard(params, model, batch.workspace, batch=True)
    return Talk(seen.params, model.tier, identity_of(batch, request), temper)
