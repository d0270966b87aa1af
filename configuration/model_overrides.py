"""Overrides in force of models, prices and ladders."""

import os
from pathlib import Path

from configuration.operator import current_operator
from rowtide.tiers.catalogue import NOTHING, Overrides, read_overrides


async def model_overrides_in_force() -> Overrides:
    """Return the operator's overrides, else those in the file ROWTIDE_MODELS, else none.

    Raises WorldError when the operator's are unknown, and UserMistake.
    """
    if (found := await current_operator().filled_in(Overrides)) is not None:
        return found
    return model_overrides_from_environment()


def model_overrides_from_environment() -> Overrides:
    """Return the overrides in the file ROWTIDE_MODELS, or none. Raises UserMistake."""
    file = os.environ.get("ROWTIDE_MODELS")
    return read_overrides(Path(file)) if file else NOTHING
