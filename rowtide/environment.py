"""Numbers out of environment variables: one that is none is a mistake that names its variable."""

from collections.abc import Mapping

from rowtide.errors import UserMistake


def number_in(environment: Mapping[str, str], name: str, default: float, *, least: float, most: float) -> float:
    """The number that a variable says, or the default where it is not set or empty. Raises UserMistake."""
    said = environment.get(name, "").strip()
    if not said:
        return default
    try:
        number = float(said)
    except ValueError:
        number = float("nan")
    if not least <= number <= most:
        raise UserMistake(f"{said!r} is no number from {least:g} to {most:g}", key=name)
    return number
