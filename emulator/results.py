"""A batch's results, worked out from its requests. Read twice, they are the same."""

from collections.abc import Iterator
from typing import Any

import orjson

from emulator.batches import Batch
from emulator.intake import accepted_row
from emulator.ledger import Bill
from emulator.models import BY_NAME
from emulator.problems import Problem
from emulator.replies import reply
from emulator.shelf import Rows
from emulator.tokens import cached_prefix


def result_lines(batch: Batch, rows: Rows, bill: Bill) -> Iterator[bytes]:
    """A line for every row, without the newline, each worked out when it is asked for. Answers go into the bill."""
    finished, ending = batch.finished_rows()
    errored = frozenset(batch.errored)
    for place, row in enumerate(batch.order()):
        request = rows[row]
        if place >= finished:
            result: dict[str, Any] = {"type": ending}
        elif str(row) in batch.spoilt:
            result = dict(batch.spoilt[str(row)])
        else:
            result = _row_result(batch, row, request, is_errored=row in errored)
        if result["type"] == "missing":
            continue
        if "message" in result:
            bill.enter(result["message"])
        yield orjson.dumps({"custom_id": request["custom_id"], "result": result})


def _row_result(batch: Batch, row: int, request: dict[str, Any], *, is_errored: bool) -> dict[str, Any]:
    params = request["params"]
    try:
        if is_errored:
            accepted_row(params, batch.workspace, batch.version, batch.betas)
        prefix = cached_prefix(params)
        message = reply(
            params,
            BY_NAME[params["model"]],
            workspace=batch.workspace,
            identity=f"{batch.id}/{request['custom_id']}",
            prefix=prefix,
            creates_cache=prefix is not None and batch.cache_creators.get(prefix.key) == row,
            batch=True,
            twist=batch.twists.get(str(row), {}),
        )
    except Problem as problem:
        return {"type": "errored", "error": problem.row_error()}
    return {"type": "succeeded", "message": message}
