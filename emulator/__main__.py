"""`python -m emulator`: serve the emulated Claude API on this machine."""

import argparse
import asyncio
import gc
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

from yaml import YAMLError

from emulator.clock import Clock
from emulator.habits import read_habits
from emulator.known_answers import NONE_KNOWN, AnswersError, read_answers
from emulator.plan import PlanError
from emulator.server import Emulator, World
from emulator.settings import SettingsBook, SettingsError


def main() -> None:
    os.umask(0o077)  # what it keeps are somebody's rows
    parser = _parser()
    options = parser.parse_args()
    # A thread that works out results must not keep other calls waiting.
    sys.setswitchinterval(0.001)
    # A large batch is hundreds of thousands of objects at once, none of them garbage.
    gc.set_threshold(100_000, 50, 50)
    # Told to end, it still clears its temporary folder away.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    world = _world(options, parser)
    emulator = Emulator(world, options.host, options.port)
    sys.stdout.write(f"emulator listening on {emulator.url}\n")
    sys.stdout.flush()
    if options.until_stdin_closes:
        Thread(target=_stop_at_end_of_stdin, args=(emulator,), daemon=True).start()
    try:
        asyncio.run(emulator.serve())
    except KeyboardInterrupt:
        pass
    finally:
        world.close()


def _world(options: argparse.Namespace, parser: argparse.ArgumentParser) -> World:
    """The state that the options describe; ends the process where a file of them cannot be read."""
    clock = Clock(frozen_at=datetime.now(UTC)) if options.clock == "virtual" else Clock()
    given = {"limits": options.limits, "reply_seconds": options.reply_seconds, "hardness": options.hardness}
    try:
        book = SettingsBook(**given, habits=read_habits(options.habits) if options.habits else [])
        known = read_answers(options.answers) if options.answers else NONE_KNOWN
    except (SettingsError, AnswersError, OSError, YAMLError) as error:
        parser.error(str(error))
    world = World(
        options.data,
        clock=clock,
        batch_seconds=options.batch_seconds,
        seed=options.seed,
        settings=book,
        known=known,
    )
    try:
        if options.faults:
            world.faults.load(options.faults)
    except (PlanError, OSError) as error:
        world.close()
        parser.error(f"--faults {options.faults}: {error}")
    return world


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m emulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8787, help="0 takes any free one (default: 8787)")
    parser.add_argument("--data", type=Path, help="folder that keeps batches over restarts (default: a temporary one)")
    parser.add_argument(
        "--batch-seconds",
        type=_seconds,
        default=(0.5, 2.0),
        metavar="LOW..HIGH",
        help="how long a batch takes to end (default: 0.5..2)",
    )
    parser.add_argument(
        "--reply-seconds",
        type=_seconds,
        default=(0.0, 0.0),
        metavar="LOW..HIGH",
        help="how long a message takes to be answered, or a stream to be written (default: 0)",
    )
    parser.add_argument(
        "--limits",
        type=_limits,
        default={},
        metavar="NAME=N,...",
        help="per minute, account and class of models: requests, input-tokens, output-tokens, count-tokens",
    )
    parser.add_argument(
        "--hardness",
        choices=("text", "features"),
        default="text",
        help="which rows are hard: features: those with something missing, long, noisy, foreign or ambiguous",
    )
    _add_files(parser)
    parser.add_argument("--clock", choices=("real", "virtual"), default="real", help="virtual: set by /_emulator/clock")
    parser.add_argument("--seed", type=int, default=0, help="which latencies and orders are drawn (default: 0)")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when the parent process does")
    return parser


def _add_files(parser: argparse.ArgumentParser) -> None:
    for name, what in (
        ("--answers", "answers to give, in YAML or JSON lines"),
        ("--habits", "further mistakes, in YAML"),
        ("--faults", "what goes wrong, in YAML"),
    ):
        parser.add_argument(name, type=Path, metavar="FILE", help=f"{what} (emulator/README.md)")


def _seconds(text: str) -> tuple[float, float]:
    low, _, high = text.partition("..")
    try:
        bounds = float(low), float(high or low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not LOW..HIGH, such as 0.5..2") from None
    if not 0 <= bounds[0] <= bounds[1]:
        raise argparse.ArgumentTypeError(f"{text!r}: LOW must be at least 0 and at most HIGH")
    return bounds


def _limits(text: str) -> dict[str, int]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    try:
        return {name.strip().replace("-", "_"): int(amount) for name, _, amount in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not NAME=N,..., such as requests=60,input-tokens=40000"
        ) from None


def _stop_at_end_of_stdin(emulator: Emulator) -> None:
    while os.read(0, 65536):  # not by way of `sys.stdin`: whoever holds its lock when the interpreter ends, aborts it
        pass
    emulator.stop()


if __name__ == "__main__":
    main()
