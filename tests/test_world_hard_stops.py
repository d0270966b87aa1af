"""`make serve` gets up by itself: `python -m chaos.service` in a shorter form."""

from pathlib import Path

import pytest

from chaos.service import kill_service

pytestmark = pytest.mark.slow


def test_all_parts_are_killed_at_once_and_everything_goes_on_by_itself(tmp_path: Path) -> None:
    """Server, worker, receiver and flows, then their guardians too, while messages and runs come in."""
    came = kill_service(tmp_path / "service", 3, watch_seconds=20, between=(5, 30))
    assert came.failures == []
    assert came.rows > 20
    assert came.runs > 0
