"""The picture of a run: one page that loads nothing, runs nothing, hides nothing and says what the ledger says."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest import NOW, make_job, make_rows, make_run, run
from playwright.sync_api import Browser, sync_playwright
from run_summaries import summarize
from sqlalchemy import text

from cli.main import app
from rowtide.errors import UserMistake
from rowtide.ledger import batches as ledger_batches
from rowtide.ledger import rows as ledger_rows
from rowtide.ledger.ledger import Ledger, Run, find_run, finish_extract, ledger_url
from rowtide.ledger.read.progress import read_progress
from rowtide.ledger.read.report_data import quantile, read_report_data
from rowtide.ledger.rows import MoveReason
from rowtide.report.report_figures import wilson_interval
from rowtide.report.report_page import render_report_page
from rowtide.stages.report.draw_report import draw_report
from rowtide.text_format import shorten_text as shown

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; sudo apt install chromium")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
HOSTILE = [
    "<script>document.title='owned'</script>",
    '"><img src=x onerror=alert(1)>',
    "'; </style><style>body{display:none}",
    "\u202egnp.exe\u2066 \u200b\x1b[31m",
    "{{ 7 * 7 }} {% raw %}",
    "W" * 5000,
]


def told(ledger: Ledger, run: Run, *, golden: Mapping[str, Mapping[str, Any]] | None = None) -> tuple[Any, Any]:
    """A run's summary and its picture, an hour after it began."""
    now = NOW + timedelta(hours=1)
    with ledger.view() as tx:
        run = find_run(tx, run.run_id)
        return summarize(tx, run, now=now), read_report_data(tx, run, golden=golden or {}, now=now)


def drawn(ledger: Ledger, run: Run, **golden: Any) -> str:
    return render_report_page(*told(ledger, run, **golden), now=NOW + timedelta(hours=1))


def hostile_run(ledger: Ledger, texts: Sequence[str] = HOSTILE, **more: Any) -> Run:
    """A run whose keys, contents, reasons, remarks, tools and tools' words are all meant to do harm."""
    run = make_run(ledger, source=texts[0], lane="batch", **more)
    numbers = make_rows(ledger, run, len(texts))
    with ledger.page() as tx:
        finish_extract(tx, run, now=NOW)
        batch = ledger_batches.begin_packing(tx, run, "tag", now=NOW)
        ledger_batches.mark_packed(tx, batch, rows=len(numbers), size=10, reserved_micro=5)
        ledger_batches.record_post_intent(tx, batch, newest_before=None, now=NOW + timedelta(minutes=1))
        for number, words in zip(numbers, texts, strict=True):
            tx.execute(text("UPDATE row SET row_key = :key WHERE row_no = :row"), {"key": words, "row": number})
            content = {"content": orjson.dumps({words: words}), "row": number}
            tx.execute(text("UPDATE row_content SET content = :content WHERE row_no = :row"), content)
            tx.execute(
                text("INSERT INTO tool_call VALUES (:row, 1, 0, 'c', :words, :arguments, :words, 1, 7, 0)"),
                {"row": number, "words": words, "arguments": orjson.dumps({words: words})},
            )
        move_reasons = [MoveReason(number, 0, words, words) for number, words in zip(numbers, texts, strict=True)]
        ledger_rows.quarantine_rows(tx, move_reasons, now=NOW + timedelta(minutes=2))
    return run


@contextmanager
def chromium(*flags: str) -> Generator[Browser]:
    """A browser; no fixture, because a run cannot have its event loop while there is one."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
        yield opened
        opened.close()


def test_a_page_loads_nothing_and_runs_nothing(sqlite_ledger: Ledger) -> None:
    html = drawn(sqlite_ledger, hostile_run(sqlite_ledger))
    assert "default-src 'none'" in html
    assert not re.search(r"<(script|link|img|iframe|object|embed|base|form)\b", html, re.IGNORECASE)
    assert not re.search(r"(?i)<[a-z][^>]*[\s:](src|href|action)\s*=|url\(|@import", html)
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_other_peoples_text_is_shown_and_never_obeyed(ledger: Ledger) -> None:
    html = drawn(ledger, hostile_run(ledger))
    assert "&lt;script&gt;document.title" in html
    assert "{{ 7 * 7 }}" in html
    assert "\\u202egnp.exe\\u2066 \\u200b\\u001b[31m" in html
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x1b]", html)
    assert "W" * 401 not in html
    assert len(html) < 400_000


def test_text_is_cut_with_its_length_said() -> None:
    assert shown("a" * 500, 10) == "aaaaaaaaaa… (500 characters)"
    assert shown("line\nline\ttab é") == "line\nline\ttab é"


def test_an_empty_run_and_one_that_goes_on_have_a_page(ledger: Ledger) -> None:
    assert "There are no rows." in drawn(ledger, make_run(ledger, "empty"))
    run = make_run(ledger, "going")
    make_rows(ledger, run, 3)
    html = drawn(ledger, run)
    assert "0 of 3 rows are loaded, 3 not settled yet." in html
    assert "rowtide resume going" in html


def test_over_time_every_row_is_somewhere_at_every_moment(ledger: Ledger) -> None:
    found, seen = told(ledger, hostile_run(ledger))
    sums = {sum(value for name, value in point.items() if name != "at") for point in seen["over_time"]}
    assert sums == {len(HOSTILE)}
    assert seen["over_time"][0]["here"] == len(HOSTILE)
    assert seen["over_time"][-1]["quarantined"] == found["quarantined"] == len(HOSTILE)
    assert [each["rows"] for each in seen["quarantine"]] == [1] * len(HOSTILE)


def test_accuracy_counts_the_verified_golden_rows_only(ledger: Ledger) -> None:
    run = make_run(ledger)
    numbers = make_rows(ledger, run, 4)
    answers = {numbers[0]: {"a": 1, "b": 2}, numbers[1]: {"a": 1, "b": 3}}
    with ledger.page() as tx:
        for number, answer in answers.items():
            values = {"row": number, "content": orjson.dumps(answer)}
            tx.execute(text("INSERT INTO answer (row_no, content) VALUES (:row, :content)"), values)
            tx.execute(text("UPDATE row SET state = 'accepted' WHERE row_no = :row"), values)
        ledger_rows.quarantine_rows(tx, [MoveReason(numbers[2], 0, "refused")], now=NOW)
    known = {f"key-{n}": {"a": 1, "b": 2} for n in (1, 2, 3)} | {"elsewhere": {"a": 1, "b": 1}}
    _, seen = told(ledger, run, golden=known)
    assert seen["golden"] == {
        "rows": 3,
        "verified": 2,
        "quarantined": 1,
        "fields": {"a": {"right": 2, "rows": 2}, "b": {"right": 1, "rows": 2}},
    }
    assert told(ledger, run)[1]["golden"] is None


def test_wilsons_interval_is_the_one_in_the_books() -> None:
    low, high = wilson_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson_interval(5, 5)[1] == 1.0
    assert wilson_interval(0, 5)[0] == 0.0


def test_a_quantile_is_a_number_that_was_seen() -> None:
    assert quantile({10: 90, 500: 10}, 0.5) == 10
    assert quantile({10: 90, 500: 10}, 0.95) == 500
    assert quantile({}, 0.5) is None


def test_a_glance_says_what_is_at_the_api_and_that_nobody_knows_how_far(ledger: Ledger) -> None:
    run = hostile_run(ledger)
    with ledger.view() as tx:
        seen = read_progress(tx, find_run(tx, run.run_id))
    words = "1 batch (6 rows) at the API, the oldest {}; it gives no partial counts"
    assert seen.at_api() == words.format("since 21 Nov 12:01 UTC")
    assert seen.at_api(NOW + timedelta(minutes=5, seconds=3)) == words.format("for 4 min 3 s")
    assert (seen.settled, seen.rows, seen.share) == (6, 6, 1.0)


def test_golden_rows_that_cannot_be_read_are_named_by_line(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "golden.jsonl").write_text('{"key": "a", "answer": {"x": 1}}\n{"key": "b"}\n')
    make_run(sqlite_ledger, job_folder=str(tmp_path))
    with pytest.raises(UserMistake, match=r"golden.jsonl:2"):
        draw_report(sqlite_ledger, "run-1", tmp_path / "page.html", now=NOW)
    assert not (tmp_path / "page.html").exists()


def test_report_draws_the_newest_run_also_while_it_goes_on(
    sqlite_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROWTIDE_HOME", str(tmp_path))
    make_rows(sqlite_ledger, make_run(sqlite_ledger, "old"), 1)
    make_rows(sqlite_ledger, make_run(sqlite_ledger, "new"), 2)
    app(["report"], exit_on_error=False, result_action="return_value")
    assert "0 of 2 rows are loaded" in (tmp_path / "reports" / "new.html").read_text()
    app(["report", "old", "--to", str(tmp_path / "x.html")], exit_on_error=False, result_action="return_value")
    assert "0 of 1 rows are loaded" in (tmp_path / "x.html").read_text()
    assert capsys.readouterr().out.count(".html") == 2


def test_drawing_is_a_program_that_says_why_it_cannot(sqlite_ledger: Ledger, tmp_path: Path) -> None:
    orders = {"ledger_url": ledger_url(None, tmp_path), "run_id": "nope", "file": "x.html", "now": NOW.isoformat()}
    command = [sys.executable, "-m", "rowtide.stages.report.draw_report"]
    done = subprocess.run(command, input=json.dumps(orders).encode(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (2, b"no run 'nope' in this ledger\n")


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_a_browser_shows_it_whole_and_asks_for_nothing(
    sqlite_ledger: Ledger, tmp_path: Path, scheme: Any, width: int
) -> None:
    file = tmp_path / "page.html"
    file.write_text(drawn(sqlite_ledger, hostile_run(sqlite_ledger)))
    asked: list[str] = []
    heard: list[str] = []
    with chromium() as browser:
        opened = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        opened.on("request", lambda request: asked.append(request.url))
        opened.on("console", lambda message: heard.append(message.text))
        opened.on("pageerror", lambda error: heard.append(str(error)))
        opened.goto(file.as_uri())
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert "owned" not in opened.title()
        assert opened.locator("svg.chart:visible").count() == opened.locator("svg.chart").count() / 2
    assert (asked, heard) == ([file.as_uri()], [])


@needs_chromium
def test_a_run_leaves_a_page_that_says_what_its_summary_says(
    api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWTIDE_PAGE", "1")
    found = run(
        make_job(tmp_path / "job", rows="id,message\n" + "".join(f"m{n},a parcel\n" for n in range(30)) + ",x\n")
    )
    file = tmp_path / "home" / "reports" / f"{found['run_id']}.html"
    with chromium() as browser:
        opened = browser.new_page()
        opened.goto(file.as_uri())
        shows = {
            name: opened.locator(f"[data-fact={name}]").inner_text() for name in ("loaded", "quarantined", "turns")
        }
        says = opened.locator("h1").inner_text()
    assert shows == {name: f"{found[name]:,}" for name in shows}
    assert says == "30 of 31 rows are loaded, 1 quarantined."


def test_a_page_that_cannot_be_drawn_costs_the_run_nothing(
    api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ROWTIDE_PAGE", "1")
    job = make_job(tmp_path / "job")
    (job / "golden.jsonl").write_text("no JSON\n")
    found = run(job)
    assert found["loaded"] == 6
    assert not list((tmp_path / "home" / "reports").glob("*.html"))
    assert "golden.jsonl:1" in caplog.text


def test_golden_values_are_compared_as_the_job_compares_them(api: Any, tmp_path: Path) -> None:
    job = make_job(tmp_path / "job", evals={"fields": {"message": "folded"}})
    known = [{"key": "m1", "answer": {"message": "THE PARCEL  is late (1)", "topic": "delivery"}}]
    (job / "golden.jsonl").write_bytes(b"\n".join(orjson.dumps(each) for each in known))
    run(job, run_id="as-meant")
    ledger = Ledger(ledger_url(None, tmp_path / "home"))
    draw_report(ledger, "as-meant", tmp_path / "page.html", now=NOW)
    ledger.close()
    page = (tmp_path / "page.html").read_text()
    assert page.count("1 of 1") == 2, "message and topic"
