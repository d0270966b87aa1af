"""The floor: the least a program can do for one turn a row, with no memory of where it was.

Read CSV, render, serialise, POST, stream the results, parse, validate, write Parquet. If it dies, all is lost.
"""

import importlib.util
import sys
import time
from pathlib import Path

import httpx2
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from benchmarks.sources import rows_of
from benchmarks.used import cpu_seconds, peak_mb

HEADERS = {"x-api-key": "floor", "anthropic-version": "2026-10-21", "content-type": "application/json"}


def main() -> None:
    """Run `BASE_URL JOB SOURCE OUT MODEL` and print CPU seconds, peak megabytes and rows as JSON."""
    base_url, job, source, out, model = sys.argv[1:]
    answer = answer_model(Path(job))
    system, _, _ = (Path(job) / "prompt.md").read_text().partition("\n---\n")
    schema = {**answer.model_json_schema(), "additionalProperties": False}
    shared = {
        "model": model,
        "max_tokens": 4096,
        "system": system,
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
    }
    began = cpu_seconds()
    requests = [
        {
            "custom_id": f"row-{n}",
            "params": {
                **shared,
                "messages": [{"role": "user", "content": f"message: {row['message']}\ncustomer: {row['customer']}"}],
            },
        }
        for n, row in enumerate(rows_of(Path(source)))
    ]
    with httpx2.Client(base_url=base_url, headers=HEADERS, timeout=600) as http:
        body = orjson.dumps({"requests": requests})
        batch = http.post("/v1/messages/batches", content=body).raise_for_status().json()
        while batch["processing_status"] != "ended":
            time.sleep(0.5)
            batch = http.get(f"/v1/messages/batches/{batch['id']}").json()
        answers = []
        with http.stream("GET", f"/v1/messages/batches/{batch['id']}/results") as lines:
            for line in lines.iter_lines():
                message = orjson.loads(line)["result"]["message"]
                said = next(block["text"] for block in message["content"] if block["type"] == "text")
                answers.append(answer.model_validate_json(said).model_dump())
    pq.write_table(pa.Table.from_pylist(answers), out, compression="zstd")
    figures = {"cpu_seconds": cpu_seconds() - began, "rows": len(answers), "peak_mb": peak_mb()}
    sys.stdout.write(orjson.dumps(figures).decode() + "\n")


def answer_model(job: Path) -> type[BaseModel]:
    """The job's own."""
    spec = importlib.util.spec_from_file_location("answer", job / "answer.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Answer


if __name__ == "__main__":
    main()
