"""Sources from the outside: what `rowtide plan` says of a file, and with which exit status."""

from pathlib import Path

import orjson
from conftest import make_job
from outside import rowtide

HOSTILE = [
    (b'id,message\n1,"Acme\n2,late\n', 2, "rows.csv:2: column 3: the quote that opens here is not closed"),
    ("id;message\n1;Zoë\n".encode("utf-16"), 0, "source: rows.csv: read as utf-16, `;`"),
]


def test_plan_says_how_a_file_is_read_or_where_it_cannot_be(tmp_path: Path) -> None:
    for number, (content, status, words) in enumerate(HOSTILE):
        job = make_job(tmp_path / f"job{number}", rows=content)
        done = rowtide("plan", job, environment={"ROWTIDE_HOME": str(tmp_path / "home"), "ANTHROPIC_API_KEY": None})
        assert done.status == status, done.err
        assert words in done.out + done.err
        assert not (status and orjson.loads(done.out or "{}"))
