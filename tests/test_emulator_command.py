"""`python -m emulator`, as a process: what it prints, when it ends, and what survives its death."""

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

HEADERS = {"x-api-key": "key", "anthropic-version": "2026-10-21"}
PARAMS = {"model": "claude-haiku-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}


@contextmanager
def emulator(*options: str) -> Generator[tuple["subprocess.Popen[str]", str]]:
    command = [sys.executable, "-m", "emulator", "--port", "0", "--until-stdin-closes", *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    line = process.stdout.readline()
    assert line.startswith("emulator listening on http://127.0.0.1:")
    try:
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()


def call(url: str, method: str, path: str, **options: Any) -> dict[str, Any]:
    return httpx2.request(method, f"{url}/v1/messages/batches{path}", headers=HEADERS, **options).json()


def test_it_ends_with_its_parent_and_has_printed_one_line() -> None:
    with emulator() as (process, url):
        call(url, "GET", "")
        rest, _ = process.communicate(timeout=10)
        assert (rest, process.returncode) == ("", 0)


def test_an_accepted_batch_survives_a_kill(tmp_path: Path) -> None:
    with emulator("--data", str(tmp_path), "--batch-seconds", "0..0") as (process, url):
        batch = call(url, "POST", "", json={"requests": [{"custom_id": "only", "params": PARAMS}]})
        process.kill()
    with emulator("--data", str(tmp_path)) as (_, url):
        found = call(url, "GET", f"/{batch['id']}")
        assert (found["processing_status"], found["request_counts"]["succeeded"]) == ("ended", 1)
        assert found["results_url"].startswith(url)


@pytest.mark.parametrize("seconds", ["soon", "3..1", "-1..2"])
def test_a_latency_that_makes_no_sense_is_refused(seconds: str) -> None:
    command = [sys.executable, "-m", "emulator", f"--batch-seconds={seconds}"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "LOW" in refused.stderr
