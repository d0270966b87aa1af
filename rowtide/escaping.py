"""Escape other people's text for each medium: terminal, log, shell, HTML, Markdown. It is shown, never obeyed.

Row keys, rows, answers, tools' words, errors, names of jobs, runs and files come from outside. What each medium would
obey of them (an escape code, a table's bar, a tag, a line's end) is written out here and nowhere else. A cell of a
spreadsheet is made by `quarantine/quarantine_cells.py`, which must read it back too. Data (`--json`, `--to FILE`, a
sink) is never rendered: it is what it was.
"""

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import NewType
from urllib.parse import quote

from markupsafe import Markup, escape

from rowtide.json_bytes import dump_json

# What moves a cursor, turns text around or takes no room: control and format characters, halves of surrogates, fillers.
_FORMAT = (
    "\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\uffff\U000110bd\U000110cd\U00013430-\U0001345f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_UNSEEN_IN_A_LINE = re.compile(rf"[\x00-\x1f\x7f-\x9f{_FORMAT}]")
_UNSEEN = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_FORMAT}]")
_UNSEEN_IN_JSON = re.compile(rf"[\x7f-\x9f{_FORMAT}]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

LOG_LENGTH = 2000  # characters of a line of the log

Markdown = NewType("Markdown", str)
"""Text with Markdown in it that is ours. It is made in this module only."""

NOTHING = Markdown("")

# What could be more than text in CommonMark with tables: in any place, at the beginning, before or after a space.
_MARKS = re.compile(
    r"[\\`*<>&|\[\]~@]"  # code, emphasis, tags, entities, cells, links, struck text, addresses
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis, but not inside of a word
    r"|:(?=/)|(?<=www)\."  # what would become a link by itself
    r"|^[#\-+=:]|^\d(?=\d{0,8}[.)])"  # blocks and lists
    r"|^\s|\s$",  # would be taken away
    re.IGNORECASE,
)


def visible_text(text: object) -> str:
    """Return text, of several lines, with invisible characters written out."""
    return _UNSEEN.sub(_written_out, str(text))


def one_line(text: object) -> str:
    """Return text as one line for a terminal: control codes, line ends and invisible characters are written out."""
    return _UNSEEN_IN_A_LINE.sub(_written_out, str(text))


def log_line(text: object) -> str:
    """Return text as one line of a log, cut at a maximum length."""
    line = one_line(text)
    return line if len(line) <= LOG_LENGTH else f"{line[:LOG_LENGTH]}… ({len(line):,} characters)"


def escape_html(text: object) -> Markup:
    """Return text as HTML, also for use in a quoted attribute."""
    return escape(visible_text(text))


def relative_link(path: PurePath) -> str:
    """Return a relative path as a link; never another address or a script, whatever its folders are called."""
    return "./" + quote(path.as_posix())


def terminal_safe_json(value: object) -> str:
    """Return a value as JSON that any JSON reader understands and that is harmless to a terminal."""
    return _UNSEEN_IN_JSON.sub(_as_json_escape, dump_json(value).decode())


def shell_word(text: str) -> str:
    """Return text as one word of a shell command that a person may copy: one line, invisible characters written out."""
    if one_line(text) == text:
        return shlex.quote(text)
    spelt = "".join(
        f"\\{each}" if each in "\\'" else each if one_line(each) == each else _in_bytes(each) for each in text
    )
    return f"$'{spelt}'"  # as bash and zsh read it


def markdown_code(text: object) -> Markdown:
    """Return text as inline code of Markdown."""
    plain = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    return Markdown(f"{fence} {plain} {fence}")  # CommonMark takes one space away on each side


def markdown_commands(lines: Iterable[str]) -> Markdown:
    """Return commands as a Markdown block to be copied into a shell, one a line."""
    return Markdown("\n".join(["```sh", *map(one_line, lines), "```"]))


def markdown_web_link(url: str) -> Markdown:
    """Return a checked web address as a link that shows the address."""
    return Markdown(f"[{escape_markdown(url)}](<{url}>)")


def markdown_named_parts(**texts: Markdown) -> Markdown:
    """Return one line of Markdown parts, each after its name."""
    return Markdown(" · ".join(f"{name}: {each}" for name, each in texts.items() if each))


def escape_markdown(text: object) -> Markdown:
    """Return text as Markdown that only shows it: for a paragraph, a heading or a cell."""
    return Markdown(_MARKS.sub(lambda found: f"&#{ord(found[0])};", one_line(text)))


def markdown_bold(text: object) -> Markdown:
    """Return text as bold Markdown."""
    return Markdown(f"**{escape_markdown(text)}**")


def markdown_labelled(**texts: object) -> Markdown:
    """Return a paragraph of plain texts, each after its name in bold; empty ones are left out.

    The texts are never bold, so none can forge a name. Prefect breaks these lines; it would hide a table's cell beyond
    the edge of a form.
    """
    return Markdown(" ".join(f"{markdown_bold(name)} {escape_markdown(text)}" for name, text in texts.items() if text))


def markdown_heading(text: object) -> Markdown:
    """Return text as a heading of Markdown."""
    return Markdown(f"# {escape_markdown(text)}")


def markdown_table(heads: Sequence[object], rows: Iterable[Sequence[object]], *, numbers: int = 0) -> Markdown:
    """Return a table of plain texts; the last `numbers` columns are numbers."""
    ruled = ["---"] * (len(heads) - numbers) + ["---:"] * numbers
    lines = [
        [escape_markdown(head) for head in heads],
        ruled,
        *([escape_markdown(cell) for cell in row] for row in rows),
    ]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def markdown_page(*blocks: Markdown) -> Markdown:
    """Return blocks of Markdown joined to a page, empty ones left out."""
    return Markdown("\n\n".join(block for block in blocks if block))


def _written_out(found: re.Match[str]) -> str:
    place = ord(found[0])
    return _NAMED.get(found[0]) or (f"\\u{place:04x}" if place <= 0xFFFF else f"\\U{place:08x}")


def _in_bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))


def _as_json_escape(found: re.Match[str]) -> str:
    pairs = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{pairs[n]:02x}{pairs[n + 1]:02x}" for n in range(0, len(pairs), 2))
