"""Checks that the API answers, accepts the key, has the job's models, and agrees with this machine's clock.

All calls are free: a list of one batch, and a token count for each model.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime

import orjson

from rowtide.api.claude import Claude
from rowtide.errors import RowtideError
from rowtide.stages.diagnose.findings import Finding
from rowtide.text_format import format_duration
from rowtide.tiers.catalogue import Model

CLOCKS_APART_SECONDS = 30.0  # signatures of webhooks are good for minutes, ages of batches are shown to the second


async def examine_api(claude: Claude, name: str, clock: Callable[[], datetime]) -> list[Finding]:
    """Check that the API lists the workspace's batches, and how far its clock differs from ours. Raises as `newest`
    does.
    """
    await claude.newest()
    found = [Finding("API", "ok", f"{name} takes the key, and lists the batches of its workspace")]
    try:
        apart = abs((parsedate_to_datetime(claude.date_header) - clock()).total_seconds())
    except ValueError:
        return [*found, Finding("clock", "skipped", "the API's answer names no time")]
    words = f"{format_duration(apart)} from the API's"
    if apart <= CLOCKS_APART_SECONDS:
        return [*found, Finding("clock", "ok", words)]
    return [*found, Finding("clock", "warning", words, "let the machine keep its time by NTP")]


async def examine_models(claude: Claude, models: Sequence[Model]) -> list[Finding]:
    """Check that the API has each of a job's models, by counting the tokens of one word."""
    found: list[Finding] = []
    for model in {each.id: each for each in models}.values():
        request = {"model": model.id, "messages": [{"role": "user", "content": "hello"}]}
        try:
            await claude.count_tokens(orjson.dumps(request))
            found.append(Finding(f"model {model.alias}", "ok", f"the API has {model.id}"))
        except RowtideError as error:
            advice = (
                "name another id in the model ladder block or in the file ROWTIDE_MODELS, or another tier in job.yaml"
            )
            found.append(Finding(f"model {model.alias}", "failed", str(error), advice))
    return found
