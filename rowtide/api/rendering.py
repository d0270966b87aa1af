"""Ready rows as requests, with what each can cost at worst."""

from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
import orjson

from rowtide.agent.agent import RowAt, room
from rowtide.agent.requests import Earlier, head, messages, params
from rowtide.job.job import Lane
from rowtide.ladder.catalogue import Model
from rowtide.ladder.ladder import as_message
from rowtide.ladder.pricing import worst_case_micro
from rowtide.ledger import ledger_lanes, ledger_turns
from rowtide.ledger.ledger_rows import Remark
from rowtide.work import Work

# A token is at least a byte, so a request's bytes bound its tokens; this much the API may add in words of its own.
HIDDEN_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class Rendered:
    """A page of ready rows as requests with their worst cases, and the rows that cannot be rendered."""

    rows: list[RowAt]
    params: list[bytes]
    """What a live call sends, and a batch under `params`."""
    costs: list[int]
    """In micro-dollars."""
    models: Sequence[Model]
    """Who answers for each rung."""
    unfit: list[Remark]


def render(work: Work, page: Sequence[RowAt], *, lane: Lane) -> Rendered:
    """Write the next request of each row. One whose prompt cannot be filled is unfit."""
    with work.ledger.view() as tx:
        contents = ledger_turns.contents(tx, [row.row_no for row in page])
        talks = ledger_turns.conversations(tx, [row for row in page if not row.checking])
        answers = ledger_turns.answers(tx, [row.row_no for row in page if row.checking])
        quoted = ledger_turns.quotations(tx, page)
    rendered = Rendered([], [], [], work.standing(), [])
    for row in page:
        values, asked = orjson.loads(contents[row.row_no]), work.asked(row)
        model, own = rendered.models[asked], work.models[asked]
        effort = None if row.checking else model.effort(row.effort)
        try:
            if row.checking:
                rubric, shared = work.rubric
                said = rubric.messages(values, answers[row.row_no])
            else:
                shared = work.prefix(row.prefix_no, effort)
                first = as_message(work.job.message_for(values), quoted.get(row.row_no))
                earlier = _earlier(work, row) if lane == "sequential" else ()
                said = messages(first, talks.get(row.row_no, ()), None if model is own else model.alias, earlier)
        except jinja2.UndefinedError as error:
            rendered.unfit.append(Remark(row.row_no, row.turn, "unfilled_hole", f"prompt: {error.message}"))
            continue
        tokens = min(room(work.job.spec, row), model.max_output_tokens)
        body = params(head(model.id, tokens, model.thinking_at(effort)), shared, said)
        rendered.rows.append(row)
        rendered.params.append(body)
        rendered.costs.append(worst_case_micro(model, len(body) + HIDDEN_TOKENS, tokens, lane=lane))
    return rendered


def _earlier(work: Work, row: RowAt) -> list[Earlier]:
    """The verified rows before this one, as messages and answers."""
    with work.ledger.view() as tx:
        found = ledger_lanes.earlier(tx, work.run, row.row_no, at_least=work.job.spec.live.earlier_rows)
    return [(work.job.message_for(orjson.loads(content)), answer.decode()) for content, answer in found]
