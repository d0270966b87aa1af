"""A peer's interpreter: a venv in the user's cache folder, made when it is first asked for and when its pins change."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PINS = Path(__file__).parent


def interpreter(peer: str, say: Callable[[str], None]) -> Path:
    """Install what the peer's pins name, unless it is there. Raises AssertionError with pip's last words."""
    pins = PINS / f"{peer.replace('-', '_')}.txt"
    version = hashlib.blake2b(pins.read_bytes() + sys.version.encode(), digest_size=6).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rowtide" / "peers"
    folder = cache / f"{peer}-{version}"
    if not (folder / "done").exists():
        say(f"{peer}: installing into {folder}, about a minute")
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(folder / "bin" / "python"), "-m", "pip", "install", "-qq", "--requirement", str(pins)])
        (folder / "done").touch()
    return folder / "bin" / "python"


def _run(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"cannot be installed here: {done.stderr.strip().rpartition(chr(10))[2][:300]}"
