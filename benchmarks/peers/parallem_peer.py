"""ParaLLeM: an agent is a function, replayed until its replies are there; run again and again, as its README says."""

import logging
import time
from contextlib import suppress

import parallem as pllm

from benchmarks.peers.answers import Desk, Sorted
from benchmarks.peers.same_work import RunContext, asked, done, find_desk
from benchmarks.used import cpu_seconds

ROUNDS = 200


def run(context: RunContext) -> list[str]:
    answers: dict[str, str] = {}
    for _ in range(ROUNDS):
        with suppress(SystemExit):  # as it does while a batch is on its way; to replay the rows would tell it nothing
            replay(context, answers)
        if len(answers) == len(context.rows):
            break
        time.sleep(0.5)
    return list(answers.values())


def replay(context: RunContext, answers: dict[str, str]) -> None:
    tweaks = {"batch_user_confirmation": False, "batch_max_size": 100_000, "batch_wait_until_complete": True}
    with pllm.resume_directory(
        str(context.home / "parallem"), provider="anthropic", strategy="batch", log_level=logging.ERROR, tweaks=tweaks
    ) as orchestrator:
        for row in context.rows:
            if row["id"] not in answers:
                with orchestrator.agent(row["id"]) as agent:
                    answers[row["id"]] = answer(context, agent, row)


def answer(context: RunContext, agent: pllm.AgentContext, row: dict[str, str]) -> str:
    model = {"llm": context.model, "instructions": context.system, "max_tokens": 4096}
    if not context.has_tool:
        return agent.ask_llm(context.message(row), structured_output=Sorted, **model).final_answer
    said = agent.get_msg_state()
    said.append(context.message(row))
    reply = said.ask_llm(tools=[find_desk], structured_output=Desk, **model)
    said.ask_functions(find_desk=find_desk)
    if reply.function_calls:
        reply = said.ask_llm(tools=[find_desk], structured_output=Desk, **model)
    return reply.final_answer


if __name__ == "__main__":
    given, began = asked(), cpu_seconds()
    done(run(given), began)
