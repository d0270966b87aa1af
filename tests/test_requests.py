"""A request is what the API expects, byte for byte the same for what rows share."""

import re

import orjson
from hypothesis import given
from hypothesis import strategies as st

from rowtide.agent.requests import (
    batch_request,
    conversation_messages,
    custom_id,
    request_params,
    row_no_of_custom_id,
    shared_request_part,
    tier_keys,
)
from rowtide.ledger.turns import PastTurn, ToolResult

TOOL = {"name": "a__b", "description": "d", "input_schema": {"type": "object"}}


def build(*talk: PastTurn) -> dict:
    shared = shared_request_part("be good", [TOOL], {"type": "object"})
    return orjson.loads(
        batch_request(
            "tag-7", request_params(tier_keys("some-model", 99), shared, conversation_messages("row seven", talk))
        )
    )


def test_a_first_request_holds_the_row_the_instructions_the_tools_and_the_schema() -> None:
    found = build()
    assert found["custom_id"] == "tag-7"
    params = found["params"]
    assert params["model"] == "some-model"
    assert params["max_tokens"] == 99
    assert params["messages"] == [{"role": "user", "content": "row seven"}]
    assert params["system"][-1]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert params["tools"] == [TOOL]
    assert params["output_config"]["format"]["type"] == "json_schema"


def test_what_the_model_said_goes_back_verbatim_with_every_tool_answered() -> None:
    said = (
        b'[{"type":"thinking","thinking":"","signature":"x=="},{"type":"tool_use","id":"t1","name":"a__b","input":{}}]'
    )
    heard = [
        ToolResult("t1", "a.b", "no such thing", 1),
        ToolResult("mcptoolu_2", "c.d", "the API has heard this itself", 0),
    ]
    _, assistant, user = build(PastTurn("tool_use", said, tool_results=heard))["params"]["messages"]
    assert assistant["content"] == orjson.loads(said)
    (result,) = user["content"]
    assert (result["tool_use_id"], result["is_error"]) == ("t1", True)
    assert "no such thing" in result["content"]


def test_a_correction_follows_the_answer_it_is_about() -> None:
    answered = PastTurn("end_turn", b"[]", correction="Your answer was not accepted: …")
    assert build(answered)["params"]["messages"][-1] == {"role": "user", "content": "Your answer was not accepted: …"}


def test_a_reply_that_was_cut_is_asked_for_again_as_if_it_had_never_been() -> None:
    cut = PastTurn("max_tokens", b'[{"type":"text","text":"The ans"}]')
    assert build(cut)["params"]["messages"] == [{"role": "user", "content": "row seven"}]


@given(row_no=st.integers(1, 2**62), tag=st.from_regex(r"[0-9a-f]{12}", fullmatch=True))
def test_a_custom_id_is_legal_and_names_its_row_to_its_own_batch_only(row_no: int, tag: str) -> None:
    name = custom_id(tag, row_no)
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name)
    assert row_no_of_custom_id(name, tag) == row_no
    assert row_no_of_custom_id(name, "f" * 13) is None
