"""Work out the results of a batch from its requests; they are the same at every reading."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from emulator.batches import Batch
from emulator.habits import Temper
from emulator.intake import accepted_row
from emulator.known_answers import KnownAnswers
from emulator.ledger import Bill
from emulator.minds import Thought
from emulator.models import BY_NAME
from emulator.problems import Problem
from emulator.replies import Occasion, reply
from emulator.shelf import Rows
from emulator.thinking import heard
from emulator.tokens import cached_prefix


def result_lines(
    batch: Batch, rows: Rows, kept: Mapping[int, dict[str, Any]], bill: Bill, known: KnownAnswers
) -> Iterator[bytes]:
    """A line for every row, without the newline, each worked out when it is asked for. Answers go into the bill.

    `kept` are results that were worked out before, by row.
    """
    finished, ending = batch.finished_rows()
    errored, temper = frozenset(batch.errored), batch.temper(known)
    for place, row in enumerate(batch.order()):
        request = rows[row]
        if place >= finished:
            result: dict[str, Any] = {"type": ending}
        elif str(row) in batch.spoilt:
            result = dict(batch.spoilt[str(row)])
        elif row in kept:
            result = kept[row]
        else:
            result = row_result(batch, row, request, temper, is_errored=row in errored)
        if result["type"] == "missing":
            continue
        if "message" in result:
            bill.enter(result["message"])
        yield orjson.dumps({"custom_id": request["custom_id"], "result": result})


def row_result(
    batch: Batch,
    row: int,
    request: dict[str, Any],
    temper: Temper,
    *,
    is_errored: bool = False,
    thought: Thought | None = None,
) -> dict[str, Any]:
    """Return the `result` of a row. `thought` is what it says, if that is known already."""
    params = request["params"]
    try:
        if is_errored:
            accepted_row(params, batch.workspace, batch.version, batch.betas)
        prefix = cached_prefix(params)
        model = BY_NAME[params["model"]]
        message = reply(
            params,
            model,
            Occasion(batch.workspace, identity_of(batch, request), True, temper, batch.betas),
            seen=heard(params, model, batch.workspace, batch=True),
            prefix=prefix,
            creates_cache=prefix is not None and batch.cache_creators.get(prefix.key) == row,
            twist=batch.twists.get(str(row), {}),
            thought=thought,
        )
    except Problem as problem:
        return {"type": "errored", "error": problem.row_error()}
    return {"type": "succeeded", "message": message}


def identity_of(batch: Batch, request: dict[str, Any]) -> str:
    """Return the parts that the ids in a row's message are made from."""
    return f"{batch.id}/{request['custom_id']}"
