"""Models, prices and ladders, changed without a deploy."""

import os
from pathlib import Path

from configuration.operator import current_operator
from rowtide.tiers.catalogue import NOTHING, Overrides, read_overrides


async def model_overrides_in_force() -> Overrides:
    """What an operator says: filled in, else in the file that ROWTIDE_MODELS names, else nothing.

    Raises WorldError when it is not known what was filled in, and UserMistake.
    """
    if (found := await current_operator().filled_in(Overrides)) is not None:
        return found
    file = os.environ.get("ROWTIDE_MODELS")
    return read_overrides(Path(file)) if file else NOTHING
