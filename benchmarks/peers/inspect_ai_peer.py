"""Inspect AI: one sample for each row, in its batch mode."""

import os

from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import BatchConfig, GenerateConfig, ResponseSchema
from inspect_ai.solver import generate, system_message, use_tools
from inspect_ai.tool import Tool, tool
from inspect_ai.util import json_schema

from benchmarks.peers.answers import Desk, Sorted
from benchmarks.peers.same_work import RunContext, asked, done
from benchmarks.peers.same_work import find_desk as desk_of
from benchmarks.used import cpu_seconds

MOST = 10_000


@tool
def find_desk() -> Tool:
    async def execute(region_code: str) -> str:
        """Find the desk of a region.

        Args:
            region_code: The region.
        """
        return desk_of(region_code)

    return execute


def run(context: RunContext) -> list[str]:
    answer = Desk if context.has_tool else Sorted
    solvers = [system_message(context.system), *([use_tools(find_desk())] if context.has_tool else []), generate()]
    config = GenerateConfig(
        batch=BatchConfig(size=MOST, send_delay=2, tick=0.5),
        max_connections=MOST,
        max_tokens=4096,
        response_schema=ResponseSchema(name="answer", json_schema=json_schema(answer)),
    )
    samples = [Sample(input=context.message(row), id=row["id"]) for row in context.rows]
    (log,) = eval(
        Task(dataset=MemoryDataset(samples), solver=solvers, config=config),
        model=f"anthropic/{context.model}",
        model_base_url=os.environ["ANTHROPIC_BASE_URL"],
        max_samples=MOST,
        display="none",
        log_dir=str(context.home / "logs"),
        score=False,
    )
    assert log.status == "success", log.error
    return [each.output.completion for each in log.samples or [] if each.output.completion]


if __name__ == "__main__":
    given, began = asked(), cpu_seconds()
    done(run(given), began)
