"""The loop of the vendor's documents: create a batch with their SDK, poll, walk through the results. No state, no file.

If it dies, all is lost; an answer is what the model wrote, parsed and validated, as in benchmarks/floor.py.
"""

import sys
import time
from pathlib import Path

import anthropic
import orjson
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from anthropic.types.messages.batch_create_params import Request

from benchmarks.floor import answer_model
from benchmarks.sources import rows_of
from benchmarks.used import cpu_seconds, peak_mb


def main() -> None:
    """Run `BASE_URL JOB SOURCE OUT MODEL` and print CPU seconds, peak megabytes and rows as JSON."""
    base_url, job, source, _, model = sys.argv[1:]
    answer = answer_model(Path(job))
    system, _, _ = (Path(job) / "prompt.md").read_text().partition("\n---\n")
    schema = {**answer.model_json_schema(), "additionalProperties": False}
    client = anthropic.Anthropic(base_url=base_url, api_key="sdk-loop", timeout=600)
    began = cpu_seconds()
    batch = client.messages.batches.create(
        requests=[
            Request(
                custom_id=f"row-{n}",
                params=MessageCreateParamsNonStreaming(
                    model=model,
                    max_tokens=4096,
                    system=system,
                    output_config={"format": {"type": "json_schema", "schema": schema}},
                    messages=[{"role": "user", "content": f"message: {row['message']}\ncustomer: {row['customer']}"}],
                ),
            )
            for n, row in enumerate(rows_of(Path(source)))
        ]
    )
    while batch.processing_status != "ended":
        time.sleep(0.5)
        batch = client.messages.batches.retrieve(batch.id)
    answers = []
    for line in client.messages.batches.results(batch.id):
        if line.result.type == "succeeded":
            said = next(block.text for block in line.result.message.content if block.type == "text")
            answers.append(answer.model_validate_json(said))
    figures = {"cpu_seconds": cpu_seconds() - began, "rows": len(answers), "peak_mb": peak_mb()}
    sys.stdout.write(orjson.dumps(figures).decode() + "\n")


if __name__ == "__main__":
    main()
