"""What the API would refuse, `plan` refuses: one such thing makes the API refuse every row."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import make_job
from hypothesis import given
from hypothesis import strategies as st
from outside import rowtide
from pydantic import create_model

from emulator.problems import Problem
from emulator.schema_rules import check_output_schema
from emulator.tool_rules import _input_schema_problem  # pyright: ignore[reportPrivateUsage] # the other side's rule
from rowtide.api.api_schema import api_schema
from rowtide.errors import UserMistake
from rowtide.stages.preflight import plan_run
from rowtide.tools.tool_schema_limits import refusal_of

OBJECT: dict[str, Any] = {"type": "object"}


def with_tool(folder: Path, schema: dict[str, Any], **spec: Any) -> Path:
    """A job with one tool that takes this."""
    folder.mkdir(parents=True)
    (folder / "tools.yaml").write_text(yaml.safe_dump({"tools": [{"name": "find", "input_schema": schema}]}))
    return make_job(folder, tools={"crm": {"stub": "tools.yaml"}}, **spec)


TOOLS: list[tuple[dict[str, Any], str]] = [
    ({"properties": {"$top": {"type": "integer"}}}, "'$top'"),
    ({"properties": {"filter[id]": {}}}, "'filter[id]'"),
    ({"properties": {"first name": {}}}, "'first name'"),
    ({"properties": {"größe": {}}}, "'größe'"),
    ({"properties": {"x" * 65: {}}}, "1 to 64"),
    ({"properties": {"": {}}}, "''"),
    ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, "'anyOf' at the root"),
    ({"oneOf": [OBJECT]}, "'oneOf' at the root"),
    ({"allOf": [OBJECT]}, "'allOf' at the root"),
    ({"type": "string"}, "'string'"),
    ({"type": ["object", "null"]}, "['object', 'null']"),
    ({"properties": {"a": {"type": "int"}}}, "properties.a.type"),
    ({"properties": {"a": {"enum": "b"}}}, "no JSON schema"),
    ({"properties": {"a": {"items": [{}]}}}, "no JSON schema"),  # draft 7
    ({"properties": [], "required": "a"}, "no JSON schema"),
    ({"required": ["a", "a"]}, "no JSON schema"),
]


@pytest.mark.parametrize(("schema", "words"), TOOLS)
async def test_a_tool_that_the_api_refuses_is_refused_by_plan(
    tmp_path: Path, schema: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserMistake) as refused:
        await plan_run(with_tool(tmp_path / "job", schema), None, os.environ)
    assert "crm.find" in str(refused.value)
    assert words in str(refused.value)
    assert _input_schema_problem({**OBJECT, **schema}) is not None, "the emulator takes it"


async def test_a_tool_that_is_not_offered_spoils_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    tools = [{"name": "good"}, {"name": "bad", "input_schema": {"anyOf": [OBJECT]}}]
    (folder / "tools.yaml").write_text(yaml.safe_dump({"tools": tools}))
    await plan_run(make_job(folder, tools={"crm": {"stub": "tools.yaml", "tools": ["good"]}}), None, os.environ)


names = st.text(st.sampled_from("ab.-_$ é"), max_size=3)
types = st.sampled_from(["string", "integer", "object", "int", None, 3])
parts = st.fixed_dictionaries({}, optional={"type": types, "description": st.text(max_size=3), "enum": st.lists(types)})
schemas = st.fixed_dictionaries(
    {"type": st.sampled_from(["object", "object", "object", "array"])},
    optional={
        "properties": st.dictionaries(names, parts, max_size=3),
        "required": st.lists(names, max_size=2),
        "anyOf": st.lists(parts, max_size=1),
        "additionalProperties": st.one_of(st.booleans(), parts),
        "$defs": st.dictionaries(names, parts, max_size=1),
    },
)


@given(schemas)
def test_plan_and_the_emulator_refuse_the_same_tools(schema: dict[str, Any]) -> None:
    """Each has these rules for itself. Where they differ, one of them is wrong about the API."""
    assert (refusal_of(schema) is None) == (_input_schema_problem(schema) is None)


NULLABLE, PLAIN = "str | None", "str"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([NULLABLE] * 17, ["17 fields", "Answer.f0", "str | None", "at most 16"]),
        (["int | str"] * 17, ["17 fields", "at most 16"]),
        (["list[str | None]"] * 17, ["17 fields", "at most 16"]),
        ([f"{PLAIN} = ''"] * 25, ["25 fields", "default", "at most 24"]),
        (["Inner", "Inner"], ["18 fields", "Answer.f0.a", "at most 16"]),
    ],
)
async def test_an_answer_over_the_limits_is_refused_by_plan(
    tmp_path: Path, fields: list[str], words: list[str]
) -> None:
    inner = "class Inner(BaseModel):\n" + "".join(f"    {name}: {NULLABLE}\n" for name in "abcdefghi")
    outer = "class Answer(BaseModel):\n" + "".join(f"    f{n}: {each}\n" for n, each in enumerate(fields))
    answer = f"from pydantic import BaseModel\n\n\n{inner}\n\n{outer}"
    with pytest.raises(UserMistake) as refused:
        await plan_run(make_job(tmp_path / "job", answer=answer), None, os.environ)
    assert [word for word in ["answer.py", *words] if word not in str(refused.value)] == [], str(refused.value)


@given(st.lists(st.tuples(st.sampled_from([str, str | None, int | str, list[str | None], float]), st.booleans())))
def test_plan_and_the_emulator_refuse_the_same_answers(fields: list[tuple[Any, bool]]) -> None:
    model = create_model("Answer", **{f"f{n}": (kind, ... if must else "x") for n, (kind, must) in enumerate(fields)})
    try:
        schema = api_schema(model)
    except UserMistake:
        with pytest.raises(Problem, match="Schemas contains too many"):
            check_output_schema(_unchecked(model))
    else:
        check_output_schema(schema)


def _unchecked(model: Any) -> dict[str, Any]:
    schema = model.model_json_schema()
    return {**schema, "additionalProperties": False}


@pytest.mark.parametrize(
    ("spec", "prompt", "words"),
    [
        ({}, "x" * 4_000_000, ["1,000,0", "tokens", "haiku", "every row"]),
        ({"limits": {"batch_bytes": 5000}}, "x" * 5000, ["limits.batch_bytes", "5,000"]),
    ],
)
async def test_a_shared_part_that_leaves_no_room_for_a_row_is_refused_by_plan(
    tmp_path: Path, spec: dict[str, Any], prompt: str, words: list[str]
) -> None:
    job = make_job(tmp_path / "job", prompt=f"{prompt}\n---\n{{{{ message }}}}", **spec)
    with pytest.raises(UserMistake) as refused:
        await plan_run(job, None, os.environ)
    assert [word for word in words if word not in str(refused.value)] == [], str(refused.value)


def test_the_command_refuses_before_anything_is_sent(tmp_path: Path) -> None:
    job = with_tool(tmp_path / "job", {"properties": {"$top": {"type": "integer"}}})
    for command in ("plan", "run"):
        done = rowtide(command, job, environment={"ROWTIDE_HOME": str(tmp_path / "home")})
        assert done.status == 2
        assert "crm.find" in done.err
        assert "$top" in done.err
