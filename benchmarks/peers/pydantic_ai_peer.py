"""Pydantic AI: one agent run for each row, all at once, their requests pooled into batches (BatchModelRequests)."""

import asyncio
from datetime import timedelta
from typing import Literal

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.capabilities import BatchModelRequests

from benchmarks.peers import answers
from benchmarks.peers.same_work import RunContext, asked, done, find_desk
from benchmarks.used import cpu_seconds

WAIT = timedelta(seconds=2)  # by default 30: it is idle meanwhile


class Sorted(answers.Sorted):
    topic: Literal["billing", "delivery", "product"]


async def run(context: RunContext) -> list[BaseModel]:
    batching = BatchModelRequests(max_requests=100_000, max_wait=WAIT, poll_interval=timedelta(seconds=0.5))
    agent = Agent(
        f"anthropic:{context.model}",
        system_prompt=context.system,
        output_type=NativeOutput(answers.Desk if context.has_tool else Sorted),
        tools=[find_desk] if context.has_tool else [],
        capabilities=[batching],
        retries=2,
    )
    async with batching:
        found = await asyncio.gather(*(agent.run(context.message(row)) for row in context.rows), return_exceptions=True)
    return [each.output for each in found if not isinstance(each, BaseException)]


if __name__ == "__main__":
    given, began = asked(), cpu_seconds()
    done(asyncio.run(run(given)), began)
