"""BatchWizard: one file in, one file out, by its command line in this process. It looks at no answer; nor do we."""

import json
import sys
from contextlib import suppress

from batchwizard.cli import app

from benchmarks.peers.same_work import RunContext, asked, done
from benchmarks.used import cpu_seconds

SCHEMA = {
    "type": "object",
    "properties": {
        "topic": {"type": "string", "enum": ["billing", "delivery", "product"]},
        "customer": {"type": "string"},
        "message": {"type": "string"},
        "urgent": {"type": "boolean"},
        "confidence": {"type": "number"},
    },
    "required": ["topic", "customer", "message", "urgent", "confidence"],
    "additionalProperties": False,
}


def run(context: RunContext) -> list[str]:
    source, results = context.home / "rows.jsonl", context.home / "results"
    shared = {
        "model": context.model,
        "max_tokens": 4096,
        "system": context.system,
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    }
    with source.open("w") as out:
        for row in context.rows:
            params = {**shared, "messages": [{"role": "user", "content": context.message(row)}]}
            out.write(json.dumps({"custom_id": row["id"], "params": params}) + "\n")
    words = ["process", str(source), "--provider", "anthropic", "--check-interval", "1"]
    sys.argv[1:] = [*words, "--output-directory", str(results)]
    with suppress(SystemExit):
        app()
    return [line for file in results.glob("*_results.jsonl") for line in file.read_text().splitlines()]


if __name__ == "__main__":
    given, began = asked(), cpu_seconds()
    done(run(given), began)
