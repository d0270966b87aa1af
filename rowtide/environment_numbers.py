"""Read numbers from environment variables; a bad value is a UserMistake that names the variable."""

from collections.abc import Mapping

from rowtide.errors import UserMistake


def number_from_environment(
    environment: Mapping[str, str], name: str, default: float, *, least: float, most: float
) -> float:
    """Return the number in a variable, or the default where it is unset or empty. Raises UserMistake."""
    text = environment.get(name, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not least <= number <= most:
        raise UserMistake(f"{text!r} is no number from {least:g} to {most:g}", key=name)
    return number
