"""Other people's text is text wherever it is shown: in a terminal, Markdown, HTML, a spreadsheet, JSON, a log."""

import csv
import io
import json
import logging
import os
import re
import shlex
import unicodedata
from collections.abc import Mapping
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path, PurePath
from typing import Any

import pytest
from conftest import NOW
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console
from run_summaries import summarize
from sqlalchemy import text
from test_report_page import hostile_run

from cli.main import app
from cli.output import out, plain_table, print_error
from rowtide.errors import UserMistake
from rowtide.escaping import (
    escape_html,
    escape_markdown,
    log_line,
    markdown_bold,
    markdown_heading,
    markdown_page,
    markdown_table,
    one_line,
    relative_link,
    shell_word,
    terminal_safe_json,
    visible_text,
)
from rowtide.job.run_id import check_run_id, new_run_id
from rowtide.ledger.ledger import Ledger, Run, find_run, ledger_url
from rowtide.observing.event_log import log_event, logger
from rowtide.quarantine.quarantine_cells import unguard_cell
from rowtide.quarantine.quarantine_sheet import write_csv_sheet
from rowtide.report.summary_text import summary_as_markdown
from rowtide.report.summary_text import summary_as_text as summary_text
from rowtide.text_format import shorten_text

NIGHT = os.environ.get("ROWTIDE_PROPERTIES") == "night"
EXAMPLES = settings(max_examples=20_000 if NIGHT else 300, deadline=None)
SYNTAX = "\\`*_{}[]()#+-.!|<>~:/@&;\"'=^$% \t\n\r\x1b\x9b\u202e\u00a0\u2028\ud800wWtThHpPsS129ab"
anything = st.text(st.one_of(st.sampled_from(SYNTAX), st.characters(exclude_categories=[])), max_size=40)

HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "\x9b2J\x9d52;c;cm0gLXJm\x9c",
    "gone\r\x1b[2K\x1b[1Arowtide: all is well",
    "row\nrows     9 = 9 loaded + 0 quarantined\nresults  all is well",
    "\u202egnp.exe\u2066\u200b\U000e0041",
    "[red]x[/red] [link=https://evil.example]y[/link] :smile:",
    "a | refund(1) | allowed |\n| b",
    "\\| x | y",
    "![x](https://evil.example/x.png) [pay](https://evil.example) https://evil.example www.evil.example a@evil.example",
    "<img src=x onerror=alert(1)><script>alert(1)</script>",
    "`code` ```\nfence\n``` # head\n# head\n- item\n1. one\n> quote\n---\n===",
    "&lt;b&gt; &#60;b&#62; {{ 7 * 7 }} {% raw %} ${x}",
    "=cmd|'/c calc'!A1",
]
UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]")
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def leaves(tokens: list[Token]) -> list[Token]:
    """What stands in the blocks."""
    return [leaf for token in tokens for leaf in token.children or [] if leaf.content or leaf.type != "text"]


def assert_is_plain(document: str) -> None:
    """Nothing in it but texts, tables, paragraphs, a heading and what is bold: no link, picture, HTML, code or list."""
    tokens = PARSER.parse(document)
    kinds = {token.type.removesuffix("_open").removesuffix("_close") for token in tokens}
    assert kinds <= {"paragraph", "inline", "heading", "table", "thead", "tbody", "tr", "th", "td"}
    assert {leaf.type for leaf in leaves(tokens)} <= {"text", "strong_open", "strong_close"}


@pytest.mark.properties
@EXAMPLES
@given(anything)
def test_whatever_text_is_one_text_of_markdown(words: str) -> None:
    for document, block in [(escape_markdown(words), "paragraph"), (markdown_heading(words), "heading")]:
        if one_line(words):
            tokens = PARSER.parse(document)
            assert [token.type for token in tokens] == [f"{block}_open", "inline", f"{block}_close"]
            assert [(leaf.type, leaf.content) for leaf in leaves(tokens)] == [("text", one_line(words))]
    if one_line(words):
        kinds = [leaf.type for leaf in leaves(PARSER.parse(markdown_bold(words)))]
        assert kinds == ["strong_open", "text", "strong_close"]


@pytest.mark.properties
@EXAMPLES
@given(st.lists(st.tuples(anything, anything), min_size=1, max_size=4))
def test_whatever_texts_make_a_table_with_as_many_cells(rows: list[tuple[str, str]]) -> None:
    tokens = PARSER.parse(
        markdown_page(escape_markdown("before"), markdown_table(["row", "call"], rows), escape_markdown("after"))
    )
    cells = [token.children or [] for token in tokens if token.type == "inline"]
    assert ["".join(leaf.content for leaf in each) for each in cells] == [
        "before", "row", "call", *(one_line(cell) for row in rows for cell in row), "after",
    ]  # fmt: skip
    assert all(leaf.type == "text" for leaf in leaves(tokens))
    assert sum(token.type == "td_open" for token in tokens) == 2 * len(rows)


@pytest.mark.properties
@EXAMPLES
@given(anything)
def test_whatever_text_is_one_text_of_html_and_one_value_of_an_attribute(words: str) -> None:
    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__(convert_charrefs=True)
            self.tags: list[Any] = []
            self.words = ""

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            self.tags.append((tag, attrs))

        def handle_data(self, data: str) -> None:
            self.words += data

    reader = Reader()
    reader.feed(f"<p title=\"{escape_html(words)}\" data-x='{escape_html(words)}'>{escape_html(words)}</p>")
    reader.close()
    assert reader.tags == [("p", [("title", visible_text(words)), ("data-x", visible_text(words))])]
    assert reader.words == visible_text(words)


@pytest.mark.properties
@EXAMPLES
@given(anything)
def test_whatever_text_is_one_line_of_a_terminal_and_of_a_log(words: str) -> None:
    for line in (one_line(words), log_line(words), shorten_text(words, None).replace("\n", "").replace("\t", "")):
        assert not [letter for letter in line if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
        line.encode()
    word = shell_word(words)
    assert one_line(word) == word
    assert (shlex.split(word) if one_line(words) == words else [_read_by_bash(word)]) == [words]


def _read_by_bash(word: str) -> str:
    """A word of the form $'...'."""
    spelt = re.sub(r"\\([\\'])", lambda found: f"\\x{ord(found[1]):02x}", word[2:-1])
    return re.sub(
        r"((?:\\x[0-9a-f]{2})+)",
        lambda found: bytes.fromhex(found[1].replace("\\x", "")).decode("utf-8", "surrogatepass"),
        spelt,
    )


@pytest.mark.properties
@EXAMPLES
@given(anything, anything)
def test_whatever_a_table_of_the_terminal_holds_it_has_no_markup_and_hides_nothing(key: str, call: str) -> None:
    drawn = io.StringIO()
    table = plain_table("row", key, numbers=["call"])
    table.add_row(key, call, "1")
    Console(file=drawn, width=20, force_terminal=True, color_system=None).print(table)
    written = re.sub("\x1b\\[[0-9;]*m", "", drawn.getvalue())  # the head is bold
    assert not UNSEEN.search(written)
    letters = re.sub(r"\s", "", written)
    for words in (key, call):
        for letter in re.sub(r"\s", "", one_line(words)):
            assert letter in letters


@pytest.mark.properties
@EXAMPLES
@given(st.dictionaries(st.text(), st.integers() | st.text()))
def test_json_on_a_terminal_is_the_same_json_and_harmless(value: dict[str, Any]) -> None:
    written = terminal_safe_json(value)
    assert json.loads(written) == value
    assert not UNSEEN.search(written)
    assert "\n" not in written


@pytest.mark.properties
@EXAMPLES
@given(anything)
def test_whatever_text_is_no_formula_of_a_spreadsheet_and_comes_back(words: str) -> None:
    try:
        words.encode()
    except UnicodeEncodeError:
        return  # no row holds half a pair of surrogates
    sheet = io.StringIO(newline="")
    write_csv_sheet(sheet, ["row_key"], [{"row_key": words}])
    sheet.seek(0)
    (_, (cell,)) = csv.reader(sheet)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))
    assert unguard_cell(cell) == words


@pytest.mark.parametrize("folder", ["javascript:alert(1)", "/evil.example", "a#b?c=d%41", "..", "a b", 'x"y'])
def test_a_link_to_a_page_of_ours_is_never_another_address(folder: str) -> None:
    assert re.fullmatch(r"\./[\w./%~-]+", relative_link(PurePath(f"{folder}/index.html")))


@pytest.mark.parametrize(
    "run_id",
    [
        *HOSTILE,
        "$(id)",
        "a;b",
        "`id`",
        "a&b",
        "javascript:x",
        "a\u202eb",
        "-x",
        "--json",
        " a",
        "a ",
        "a\u200b",
        "\xa0",
    ],
)
def test_a_run_id_is_a_name_that_is_seen_and_no_option(run_id: str) -> None:
    with pytest.raises(UserMistake, match="a run cannot be called") as refused:
        check_run_id(run_id)
    assert not UNSEEN.search(one_line(refused.value))


@pytest.mark.properties
@EXAMPLES
@given(anything)
def test_whatever_a_jobs_folder_is_called_its_runs_have_names(job: str) -> None:
    assert check_run_id(new_run_id(job, NOW, "ab12")).endswith("-1121-120000-ab12")


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Ledger, Run]:
    """A run of which every text is meant to do harm, in the home of the commands."""
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path))
    ledger = Ledger(ledger_url(None, tmp_path))
    run = hostile_run(ledger, HOSTILE, job="\x1b[31mjob|x")
    with ledger.page() as tx:
        tx.execute(text("UPDATE batch SET state = 'orphaned', detail = :why"), {"why": HOSTILE[4]})
        said = {"why": HOSTILE[3], "stop": HOSTILE[1]}
        tx.execute(text("UPDATE run SET lane_why = :why, stopped = 'stuck', stop_detail = :stop"), said)
    return ledger, run


def command(*words: str) -> Any:
    return app([*words], result_action="return_value")


@pytest.mark.parametrize(
    "words",
    [["runs"], ["runs", "--json"], ["quarantine", "list", "RUN"], ["quarantine", "list", "RUN", "--json"],
     ["approve", "RUN"], ["reconcile", "RUN"], *(["show", key, "--run", "RUN"] for key in HOSTILE),
     *(["show", key, "--run", "RUN", "--full"] for key in HOSTILE)],
)  # fmt: skip
def test_no_command_obeys_what_it_quotes(hostile: tuple[Ledger, Run], words: list[str], capsys: Any) -> None:
    _, run = hostile
    command(*(run.run_id if word == "RUN" else word for word in words))
    said = capsys.readouterr()
    assert not UNSEEN.search(said.out + said.err)
    assert not re.search(r"^(results|rows|rowtide:) ", said.out + said.err, re.MULTILINE)


def test_mistakes_quote_names_and_values_as_one_line(hostile: tuple[Ledger, Run], capsys: Any) -> None:
    for words in HOSTILE:
        for wrong in (["show", words + "?"], ["approve", "run", words], ["runs", f"--{words}"]):
            try:
                command(*wrong)
            except UserMistake as mistake:
                print_error(str(mistake))
            except SystemExit as left:  # cyclopts has said what was wrong
                assert left.code == 2
    said = capsys.readouterr().err
    assert said
    assert not UNSEEN.search(said)
    assert not re.search(r"^(results|rows) ", said, re.MULTILINE)


def test_a_summary_is_one_line_for_each_fact_and_one_plain_page_of_markdown(hostile: tuple[Ledger, Run]) -> None:
    field = {"rows": 20, "distinct": 2, "top": HOSTILE[4], "top_rows": 20, "shortest": 1}
    cause = {"reason": HOSTILE[1], "signature": HOSTILE[4], "example": HOSTILE[4], "rows": 9, "row_keys": HOSTILE}
    found = {**told(*hostile), "answers": {HOSTILE[4]: field}, "answers_read": 20, "causes": [cause]}
    lines = summary_text(found, results=HOSTILE[4], report=HOSTILE[4], ledger=HOSTILE[3], is_verbose=True)
    assert not UNSEEN.search(lines)
    assert sum(line.startswith("results ") for line in lines.splitlines()) == 1
    gate = {"met": 0, "failed": [HOSTILE[7]], "warned": HOSTILE, "not_asked": 0}
    approvals = {"approval_text": HOSTILE[9], "approvals": dict.fromkeys(HOSTILE, 1)}
    holds = {"gate_approvals": {HOSTILE[9]: HOSTILE}, **approvals}
    document = summary_as_markdown({**found, **holds, "gates": {HOSTILE[9]: gate}})
    assert not UNSEEN.search(document)
    assert_is_plain(document)
    assert sum(token.type == "table_open" for token in PARSER.parse(document)) == 4


def told(ledger: Ledger, run: Run) -> Mapping[str, Any]:
    with ledger.view() as tx:
        return summarize(tx, find_run(tx, run.run_id), now=NOW + timedelta(hours=1))


def test_a_line_of_the_log_is_one_line_whoever_logs_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for words in HOSTILE:
            logger("tasks.report").warning("run %s: %s", words, ValueError(words))
            log_event("event", words, {"run_id": words, "job": words}, is_warning=True)
        logger("rowtide").warning("x" * 100_000)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2 * len(HOSTILE) + 1
    assert not UNSEEN.search("".join(lines))
    assert "\n" not in "".join(lines)
    assert len(lines[-1]) < 3000


def test_what_is_printed_is_never_markup(capsys: Any) -> None:
    out.print("[bold]x[/bold] [link=https://evil.example]y[/link] :smile:", markup=True)
    assert capsys.readouterr().out == "[bold]x[/bold] [link=https://evil.example]y[/link] :smile:\n"
