"""Format money, durations and other people's text for a person to read."""

from datetime import timedelta

from rowtide.escaping import visible_text

CUT = 400  # characters of other people's text


def format_usd(amount: float) -> str:
    """Return US dollars as text: to the cent if that is precise enough, else to two significant digits."""
    if amount == 0:
        return "$0"
    if amount >= 1:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= 0.0001 else f"${amount:.6f}"


def format_duration(seconds: float) -> str:
    """Return a length of time, to a tenth of a second when it is short."""
    return f"{seconds:.1f} s" if seconds < 60 else format_age(timedelta(seconds=seconds))


def format_age(span: timedelta) -> str:
    """Return a length of time, to the two units that matter: 42 s, 7 min 5 s, 3 h 12 min, 2 d 4 h."""
    seconds = max(int(span.total_seconds()), 0)
    for long, short, unit in ((86400, 3600, "d h"), (3600, 60, "h min"), (60, 1, "min s")):
        if seconds >= long:
            first, second = unit.split()
            rest = seconds % long // short
            return f"{seconds // long} {first}" + (f" {rest} {second}" if rest else "")
    return f"{seconds} s"


def shorten_middle(text: object) -> str:
    """Return other people's text with its middle cut out: its end may hold the important figure."""
    plain = visible_text(text)
    return plain if len(plain) <= CUT else f"{plain[: CUT * 5 // 8]} … {plain[-CUT * 3 // 8 :]}"


def shorten_text(text: object, length: int | None = CUT) -> str:
    """Return other people's text, safe to show: cut to `length` (None: whole), with invisible characters
    written out.
    """
    plain = visible_text(text)
    return plain if length is None or len(plain) <= length else f"{plain[:length]}… ({len(plain):,} characters)"
