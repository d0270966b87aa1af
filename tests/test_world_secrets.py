"""Secrets stand in the environment and in what is sent: in no file, no database, nothing that is printed."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest import make_job, run
from hypothesis import given
from hypothesis import strategies as st
from test_tools import start_remote

from rowtide.agent.requests import custom_id, request
from rowtide.api.sealing import CHUNK_BYTES, Body, marks
from rowtide.tools.connector import filled

TAG = "0123456789ab"
PRICE = "from pydantic import BaseModel\n\n\nclass Answer(BaseModel):\n    price: int\n"


def shared(url: str, token: str, system: str) -> bytes:
    server = {"type": "url", "name": "shop", "url": url, "authorization_token": token}
    return orjson.dumps({"system": system, "mcp_servers": [server]})[1:-1]


@given(
    st.dictionaries(st.sampled_from(["TOKEN", "A", "B_2"]), st.text(min_size=1), min_size=3),
    st.lists(st.text(max_size=80), min_size=1, max_size=5),
    st.integers(0, 3),
)
def test_a_body_on_disk_holds_marks_and_what_is_sent_of_it_holds_the_values(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], rows: list[str], pages: int
) -> None:
    part = shared("https://${A}/~.${B_2}~", "${TOKEN}", "say ${TOKEN}")
    rows = [
        row + "x" * (pages * CHUNK_BYTES // 2) for row in [*rows, "${TOKEN}", f"{TAG[:5]}.TOKEN..", '","mcp_servers"']
    ]

    def written(known: dict[str, str]) -> bytes:
        inner = filled(part, known)
        bodies = [b'{%b,"messages":%b}' % (inner, orjson.dumps(row)) for row in rows]
        return b'{"requests":[%b]}' % b",".join(request(custom_id(TAG, n), each) for n, each in enumerate(bodies))

    file = tmp_path_factory.mktemp("spool") / "body.json"
    file.write_bytes(written(marks(TAG, environment)))
    body = Body(file, TAG, environment)
    sent = b"".join(body.chunks())
    assert orjson.loads(sent) == orjson.loads(written(environment))
    assert body.length == len(sent)
    assert len(sent) <= file.stat().st_size


def test_a_body_that_lies_on_disk_for_nobody_knows_how_long_holds_no_token_of_the_connector(
    api: Any, faults: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A POST whose answer is lost leaves its body in the spool until it is known what became of it."""
    monkeypatch.setenv("SHOP_TOKEN", "open-sesame-4711")
    process, port = start_remote(0, "open-sesame-4711")
    server = {"url": f"http://127.0.0.1:{port}/mcp", "headers": {"Authorization": "Bearer ${SHOP_TOKEN}"}}
    job = make_job(
        tmp_path / "job",
        rows="id,item\nm1,lamp\nm2,window\n",
        answer=PRICE,
        prompt="Find the price.\n---\nitem: {{ item }}\n",
        tiers=["opus"],
        tools={"shop": {**server, "placement": "connector", "tools": ["find_price"]}},
    )
    faults({"call": "create", "nth": 1, "do": {"drop": "after"}}, {"call": "list", "do": {"lag_seconds": 0.5}})
    lying = list[bytes]()

    def look(_: str) -> None:
        lying.extend(file.read_bytes() for file in (tmp_path / "home" / "spool").rglob("*.requests.json"))

    try:
        found = run(job, on_stage=look)
    finally:
        process.kill()
    assert found["loaded"] == 2
    assert any(b"SHOP_TOKEN" in each for each in lying)
    assert not [each for each in lying if b"sesame" in each]
