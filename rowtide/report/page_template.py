"""Fills HTML templates of report pages, with every text escaped.

Rows, reasons and tools' words are other people's text: each thing that a template puts into its page goes through
`escaping.escape_html`.
"""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rowtide.escaping import escape_html
from rowtide.text_format import format_duration, format_usd, shorten_text


def render_template(name: str, **values: object) -> str:
    """Return a page, from its template beside this module."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": shorten_text, "usd": format_usd, "took": format_duration, "number": "{:,}".format}
    return environment.get_template(name).render(**values)


def _text(value: object) -> object:
    """What stands in the page, each thing: HTML of our own as it is, else text."""
    return value if isinstance(value, Markup) else escape_html(value)
