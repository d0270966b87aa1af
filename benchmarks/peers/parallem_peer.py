"""ParaLLeM: an agent is a function, replayed until its replies are there; run again and again, as its README says."""

import logging
import time
from contextlib import suppress

import parallem as pllm

from benchmarks.peers.answers import Desk, Sorted
from benchmarks.peers.same_work import Work, asked, done, find_desk
from benchmarks.used import cpu_seconds

ROUNDS = 200


def run(work: Work) -> list[str]:
    answers: dict[str, str] = {}
    for _ in range(ROUNDS):
        with suppress(SystemExit):  # as it does while a batch is on its way; to replay the rows would tell it nothing
            replay(work, answers)
        if len(answers) == len(work.rows):
            break
        time.sleep(0.5)
    return list(answers.values())


def replay(work: Work, answers: dict[str, str]) -> None:
    tweaks = {"batch_user_confirmation": False, "batch_max_size": 100_000, "batch_wait_until_complete": True}
    with pllm.resume_directory(
        str(work.home / "parallem"), provider="anthropic", strategy="batch", log_level=logging.ERROR, tweaks=tweaks
    ) as orchestrator:
        for row in work.rows:
            if row["id"] not in answers:
                with orchestrator.agent(row["id"]) as agent:
                    answers[row["id"]] = answer(work, agent, row)


def answer(work: Work, agent: pllm.AgentContext, row: dict[str, str]) -> str:
    model = {"llm": work.model, "instructions": work.system, "max_tokens": 4096}
    if not work.has_tool:
        return agent.ask_llm(work.message(row), structured_output=Sorted, **model).final_answer
    said = agent.get_msg_state()
    said.append(work.message(row))
    reply = said.ask_llm(tools=[find_desk], structured_output=Desk, **model)
    said.ask_functions(find_desk=find_desk)
    if reply.function_calls:
        reply = said.ask_llm(tools=[find_desk], structured_output=Desk, **model)
    return reply.final_answer


if __name__ == "__main__":
    given, began = asked(), cpu_seconds()
    done(run(given), began)
