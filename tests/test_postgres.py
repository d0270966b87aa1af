"""The tests' own PostgreSQL ends with the process that started it, however that ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from conftest import wait_until

STARTS_ONE = """
import postgres
with postgres.server() as folder:
    print(folder, flush=True)
    input()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_with_the_tests_however_they_end(number: signal.Signals) -> None:
    command = [sys.executable, "-c", STARTS_ONE]
    with subprocess.Popen(
        command, cwd=Path(__file__).parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
    ) as tests:
        assert tests.stdout
        folder = Path(tests.stdout.readline().strip())
        server = psutil.Process(int((folder / "data" / "postmaster.pid").read_text().split()[0]))
        assert server.is_running()
        os.killpg(tests.pid, number)  # as `timeout` does
    wait_until(lambda: not server.is_running() and not folder.exists(), within_seconds=60)
