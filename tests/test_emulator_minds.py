"""How the emulator's minds reply: by rule, repeatably, in the shape asked for, and sometimes wrong."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from anthropic import AsyncAnthropic
from jsonschema_rs import Draft202012Validator

from emulator.effort import EFFORTS
from emulator.habits import DEMO, Temper, as_json
from emulator.habits import HABITS as HABITS_TYPE
from emulator.hardness import features
from emulator.minds import Thought, think
from emulator.mistakes import WRONG_PER_HUNDRED, is_hard, mistakes_of
from emulator.reading import read
from emulator.server import start
from emulator.settings import SettingsBook, SettingsError
from emulator.words import plain

GLOSSARY = """Choose one sector.

- AGRICULTURE: farm, crops, livestock
- **SOFTWARE**: computer programming, apps, cloud
- RETAIL: shop, store, sale of goods
"""
ANSWER = {
    "type": "object",
    "properties": {
        "sector": {"type": "string", "enum": ["AGRICULTURE", "SOFTWARE", "RETAIL"]},
        "company_number": {"type": ["string", "null"]},
        "evidence": {"type": "string", "description": "Copied word for word from a tool's output."},
        "confidence": {"type": "number", "description": "From 0 to 1."},
    },
    "required": ["sector", "company_number", "evidence", "confidence"],
    "additionalProperties": False,
}
FIND = {
    "name": "register__find_company",
    "description": "Find companies by name.",
    "input_schema": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
        "required": ["name"],
    },
}
PROFILE = {
    "name": "register__profile",
    "description": "Everything about one company.",
    "input_schema": {
        "type": "object",
        "properties": {"company_number": {"type": "string", "pattern": "^[0-9]{8}$"}},
        "required": ["company_number"],
    },
}
FOUND = json.dumps({"matches": [{"company_name": "Acme Ltd", "company_number": "01234567"}]})
DETAILS = json.dumps({"status": "active", "industries": ["Business and domestic software development"]})


def asking(row: str, *later: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "model": "claude-haiku-5-5",
        "max_tokens": 1000,
        "system": GLOSSARY,
        "tools": [FIND, PROFILE],
        "output_config": {"format": {"type": "json_schema", "schema": ANSWER}},
        "messages": [{"role": "user", "content": row}, *later],
    } | changes


def easy_row(start_at: int = 0) -> str:
    return next(row for n in range(start_at, 999) if not is_hard(row := f"company name: Acme {n}\ncountry: GB"))


def heard(calls: Thought, *outputs: str, is_error: bool = False) -> list[dict[str, Any]]:
    """The two messages that carry a mind's tool calls and what came of them."""
    asked = [{**block, "id": f"toolu_{block['name']}_{block['input']}"} for block in calls.content]
    results = [
        {"type": "tool_result", "tool_use_id": call["id"], "content": text, "is_error": is_error}
        for call, text in zip(asked, outputs, strict=True)
    ]
    return [{"role": "assistant", "content": asked}, {"role": "user", "content": results}]


def answer_in(thought: Thought) -> dict[str, Any]:
    assert thought.stop_reason == "end_turn"
    return json.loads(thought.content[0]["text"])


def conversation(row: str, tier: str) -> dict[str, Any]:
    """The answer to a row, after whatever tools the mind wanted."""
    later: list[dict[str, Any]] = []
    for _ in range(4):
        thought = think(asking(row, *later), tier)
        if thought.stop_reason != "tool_use":
            return answer_in(thought)
        outputs = [FOUND if call["name"] == FIND["name"] else DETAILS for call in thought.content]
        later += heard(thought, *outputs)
    raise AssertionError("the mind never answered")


def test_a_tool_is_called_when_its_inputs_are_known_and_the_next_when_they_become_known() -> None:
    row = easy_row()
    first = think(asking(row), "opus")
    assert [(call["name"], call["input"]) for call in first.content] == [
        (FIND["name"], {"name": row.splitlines()[0].removeprefix("company name: ")})
    ]
    after_first = heard(first, FOUND)
    second = think(asking(row, *after_first), "opus")
    assert [(call["name"], call["input"]) for call in second.content] == [
        (PROFILE["name"], {"company_number": "01234567"})
    ]
    answer = answer_in(think(asking(row, *after_first, *heard(second, DETAILS)), "opus"))
    assert (answer["sector"], answer["company_number"]) == ("SOFTWARE", "01234567")
    assert answer["evidence"] in DETAILS
    assert 0 <= answer["confidence"] <= 1


async def test_the_tool_loop_runs_to_its_end_over_http() -> None:
    with start() as emulator:
        claude = AsyncAnthropic(base_url=emulator.url, api_key="key", max_retries=0)
        params: Any = asking(easy_row(), model="claude-opus-5-5")
        for output in (FOUND, DETAILS):
            said = await claude.messages.create(**params)
            assert said.stop_reason == "tool_use"
            results = [
                {"type": "tool_result", "tool_use_id": block.id, "content": output}
                for block in said.content
                if block.type == "tool_use"
            ]
            params["messages"] += [
                {"role": "assistant", "content": [block.to_dict() for block in said.content]},
                {"role": "user", "content": results},
            ]
        said = await claude.messages.create(**params)
        assert said.stop_reason == "end_turn"
        assert json.loads(said.content[-1].to_dict()["text"])["sector"] == "SOFTWARE"  # type: ignore[arg-type] # a text block


@pytest.mark.parametrize(("output", "is_error"), [("Error: no such company", True), ('{"matches": []}', False)])
def test_a_tool_that_finds_nothing_is_asked_once_more_at_most(output: str, is_error: bool) -> None:
    row = easy_row() + "\ntrading name: Acme Trading"
    assert not is_hard(row)
    later: list[dict[str, Any]] = []
    asked: list[dict[str, Any]] = []
    for _ in range(2):
        thought = think(asking(row, *later), "opus")
        asked += [call["input"] for call in thought.content]
        later += heard(thought, output, is_error=is_error)
    assert len(asked) == 2
    assert asked[0] != asked[1]
    assert answer_in(think(asking(row, *later), "opus"))["company_number"] is None


def test_several_tools_that_fit_are_called_in_one_turn_unless_told_not_to() -> None:
    tools = [{**FIND, "name": f"find_{n}"} for n in range(6)]
    together = think(asking(easy_row(), tools=tools), "opus")
    alone = {"type": "auto", "disable_parallel_tool_use": True}
    assert len(together.content) == 4
    assert len(think(asking(easy_row(), tools=tools, tool_choice=alone), "opus").content) == 1


def test_tool_choice_is_honoured() -> None:
    assert think(asking(easy_row(), tool_choice={"type": "none"}), "opus").stop_reason == "end_turn"
    forced = think(asking(easy_row(), tool_choice={"type": "tool", "name": PROFILE["name"]}), "opus")
    assert [call["name"] for call in forced.content] == [PROFILE["name"]]
    assert think(asking("hello", tool_choice={"type": "any"}), "opus").stop_reason == "tool_use"


@pytest.mark.parametrize(
    "row",
    [
        '{"company": {"name": "Acme"}, "country": "GB"}',
        "Here is the row:\n```json\n{\"company\": {\"name\": \"Acme\"}}\n```\nPlease answer.",
        "name: Acme",
        "- **Company name:** Acme",
        "* company_name: Acme",
    ],
)  # fmt: skip
def test_a_row_is_understood_as_json_or_as_lines(row: str) -> None:
    assert think(asking(row), "opus").content[0]["input"] == {"name": "Acme"}


def test_an_enum_is_chosen_by_the_glossary_in_the_instructions() -> None:
    for words, sector in (("a family farm", "AGRICULTURE"), ("cloud hosting", "SOFTWARE"), ("store", "RETAIL")):
        answer = answer_in(think(asking(f"description: {words}", tools=[]), "opus"))
        assert answer["sector"] == sector


SCHEMAS: dict[str, dict[str, Any]] = {
    "flat": ANSWER,
    "nested": {
        "type": "object",
        "additionalProperties": False,
        "required": ["address", "people", "tags", "codes"],
        "properties": {
            "address": {"$ref": "#/$defs/address"},
            "people": {"type": "array", "items": {"$ref": "#/$defs/person"}, "minItems": 1},
            "tags": {"type": "array", "items": {"enum": ["new", "old", "farm"]}},
            "codes": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
            "extra": {"type": "string"},
        },
        "$defs": {
            "address": {
                "type": "object",
                "additionalProperties": False,
                "required": ["country", "street"],
                "properties": {
                    "country": {"type": "string"},
                    "street": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                },
            },
            "person": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "email", "born", "is_director"],
                "properties": {
                    "name": {"type": "string"},
                    "email": {"type": "string", "format": "email"},
                    "born": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
                    "is_director": {"type": "boolean"},
                },
            },
        },
    },
    "formats": {
        "type": "object",
        "additionalProperties": False,
        "required": ["kind", "when", "at", "site", "host", "ip", "id", "zip", "rank", "level", "nothing", "note"],
        "properties": {
            "kind": {"const": "company"},
            "when": {"type": "string", "format": "date-time"},
            "at": {"type": "string", "format": "time"},
            "site": {"type": "string", "format": "uri"},
            "host": {"type": "string", "format": "hostname"},
            "ip": {"anyOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}]},
            "id": {"type": "string", "format": "uuid"},
            "zip": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{1,2} ?(ab|cd)$"},
            "rank": {"enum": [1, 2, 3]},
            "level": {"type": "integer", "description": "1 to 5"},
            "nothing": {"type": "null"},
            "note": {"type": "string", "description": "At most 5 words."},
        },
    },
    "merged": {
        "allOf": [
            {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
            {"properties": {"sector": {"type": ["string", "null"], "enum": ["a", "b", None]}}, "required": ["sector"]},
        ]
    },
}


@pytest.mark.parametrize("tier", WRONG_PER_HUNDRED)
@pytest.mark.parametrize("name", SCHEMAS)
def test_every_answer_conforms_to_its_schema_right_or_wrong(name: str, tier: str) -> None:
    validator = Draft202012Validator(SCHEMAS[name], validate_formats=True)
    form = {"format": {"type": "json_schema", "schema": SCHEMAS[name]}}
    rows = [f"company name: Acme {n}\nzip: never\nrank: 2\nip: nine\ncountry: GB\nstore: yes" for n in range(120)]
    assert any(is_hard(row) for row in rows)
    for row in rows:
        validator.validate(answer_in(think(asking(row, tools=[], output_config=form), tier)))


def test_hard_rows_are_the_same_every_time_and_about_one_in_eight() -> None:
    rows = [f"company name: Acme {n}" for n in range(3000)]
    hard = [row for row in rows if is_hard(row)]
    assert 0.10 < len(hard) / len(rows) < 0.14
    assert hard == [row for row in rows if is_hard(row)]
    for row in rows[:200]:
        assert think(asking(row), "haiku") == think(asking(row), "haiku")


def test_a_dearer_model_is_wrong_less_often_and_never_where_a_cheaper_one_is_right() -> None:
    rows = [f"company name: Acme {n}" for n in range(1500)]
    wrong = {tier: {row for row in rows if is_wrong(conversation(row, tier))} for tier in ("haiku", "sonnet", "opus")}
    assert wrong["opus"] <= wrong["sonnet"] < wrong["haiku"] <= {row for row in rows if is_hard(row)}
    assert 0.4 < len(wrong["haiku"]) / len([row for row in rows if is_hard(row)]) < 0.75


def is_wrong(answer: dict[str, Any]) -> bool:
    is_grounded = answer["evidence"] in FOUND or answer["evidence"] in DETAILS
    return not (
        (answer["sector"], answer["company_number"]) == ("SOFTWARE", "01234567")
        and is_grounded
        and 0 <= answer["confidence"] <= 1
    )


def test_a_correction_mends_about_half_of_what_was_wrong() -> None:
    rows = [f"company name: Acme {n}\ndescription: farm" for n in range(3000)]
    asked = [asking(row, tools=[]) for row in rows]
    wrong = [params for params in asked if answer_in(think(params, "haiku"))["sector"] != "AGRICULTURE"]
    edited = 0
    for params in wrong:
        said = {"role": "assistant", "content": think(params, "haiku").content}
        told = {"role": "user", "content": "Your answer was not accepted: the sector is wrong."}
        again = params | {"messages": [*params["messages"], said, told]}
        edited += answer_in(think(again, "haiku"))["sector"] == "AGRICULTURE"
    assert len(wrong) > 40
    assert 0.3 < edited / len(wrong) < 0.7


def test_without_schema_or_tools_it_just_talks() -> None:
    thought = think({"model": "m", "messages": [{"role": "user", "content": "hello"}]}, "haiku")
    assert (thought.stop_reason, thought.content) == ("end_turn", [{"type": "text", "text": "Done."}])


# Effort, and what makes a row hard


def wrong_share(rows: list[str], tier: str, **options: Any) -> float:
    """Of single questions without tools: how many are answered otherwise than they would be without a mistake."""
    effort = {"effort": options.pop("effort")} if "effort" in options else {}
    readings = [read(asking(row, output_config={**effort}), **options) for row in rows]
    return sum(bool(mistakes_of(reading, tier)) for reading in readings) / len(rows)


def test_more_effort_is_more_thinking_and_fewer_mistakes_in_the_same_rows() -> None:
    rows = [f"company name: Acme {n}\ncountry: GB" for n in range(3000)]
    wrong = [wrong_share(rows, "haiku", effort=effort) for effort in EFFORTS]
    assert wrong == sorted(wrong, reverse=True)
    assert wrong[1] == wrong_share(rows, "haiku")
    assert wrong[0] > 1.15 * wrong[1] > 1.5 * wrong[4]
    assert wrong_share(rows, "sonnet", effort="high") == wrong_share(rows, "sonnet")
    thought = [think(asking(rows[0], output_config={"effort": effort}), "haiku").thinking for effort in EFFORTS]
    assert thought == sorted(set(thought))
    assert think(asking(rows[0]), "haiku").thinking == 0


async def test_thinking_is_billed_as_output_and_takes_room_from_the_answer() -> None:
    with start() as emulator:
        claude = AsyncAnthropic(base_url=emulator.url, api_key="key", max_retries=0)
        usages = {}
        for effort in ("low", "max"):
            params: Any = asking("hello", tools=[], output_config={"effort": effort}, max_tokens=4000)
            usages[effort] = (await claude.messages.create(**params)).usage
        details = {effort: usage.output_tokens_details.thinking_tokens for effort, usage in usages.items()}
        assert usages["max"].output_tokens - usages["low"].output_tokens == details["max"] - details["low"] > 500
        short: Any = asking("hello", tools=[], output_config={"effort": "max"}, max_tokens=100)
        cut = await claude.messages.create(**short)
        assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 100)
        assert [block.type for block in cut.content] == ["thinking"]


PLAIN = "message: the invoice {} for my last order was sent to the wrong address\ncity: Leeds\ncustomer: Margaret Hill"
HARDER = {
    "missing": PLAIN.replace("Leeds", ""),
    "long": PLAIN + "\nhistory: " + "we have written to you before about this. " * 20,
    "noisy": PLAIN.replace("for my", "!!!! <b>for</b> ### my"),
    "foreign": "message: die Rechnung {} für die letzte Bestellung ist nicht angekommen\ncity: Köln\ncustomer: Jürgen",
    "ambiguous": PLAIN + "\ncompany: Global Group",
}


@pytest.mark.parametrize("feature", sorted(HARDER))
def test_a_row_with_something_hard_about_it_is_wrong_more_often_the_weaker_the_model(feature: str) -> None:
    plain = [PLAIN.format(n) for n in range(600)]
    harder = [HARDER[feature].format(n) for n in range(600)]
    assert (features(plain[0]), features(harder[0])) == (frozenset(), {feature})
    shares = {tier: wrong_share(harder, tier, hardness="features") for tier in WRONG_PER_HUNDRED}
    assert shares["haiku"] > 4 * wrong_share(plain, "haiku", hardness="features")
    assert shares["haiku"] > 2 * shares["sonnet"] > 4 * shares["opus"]


async def test_an_account_may_have_rows_that_are_hard_by_their_features_and_its_batches_keep_it() -> None:
    row = next(
        row for n in range(99) if is_hard(row := HARDER["foreign"].format(n), by_features=True) and not is_hard(row)
    )
    with start() as emulator:
        emulator.world.settings.change("router", hardness="features")
        said: dict[str, Any] = {}
        for key in ("router", "plain"):
            claude = AsyncAnthropic(base_url=emulator.url, api_key=key, max_retries=0)
            params: Any = asking(row, tools=[])
            batch = await claude.messages.batches.create(requests=[{"custom_id": "only", "params": params}])
            emulator.world.settings.reset()
            found = [line async for line in await claude.messages.batches.results(batch.id)]
            result: Any = found[0].result
            said[key] = result.message.content[-1].text
    assert json.loads(said["router"])["confidence"] < 0.75 < json.loads(said["plain"])["confidence"]


CURED = "Copy the evidence letter by letter."
CAUSED = "A farm is always SOFTWARE."
HABITS = (
    {"name": "loose words", "mistake": "ungrounded", "field": "evidence", "share": 0.3, "cured_by": [CURED]},
    {
        "name": "farms",
        "mistake": "other_value",
        "says": "RETAIL",
        "share": 0.4,
        "wrong": {"sonnet": 50, "opus": 0},
        "caused_by": [CAUSED],
    },
    {"name": "drift", "mistake": "ungrounded", "share": 0.5, "models": ["claude-haiku-5-5"], "since": "2026-12-01"},
)
FARMS = [f"name: Acme {n}\ndescription: farm with crops" for n in range(400)]


def by_habit(system: str, tier: str, *names: str, at: datetime | None = None, **changes: Any) -> list[dict[str, Any]]:
    """The answers to FARMS, from their words alone, with only these habits."""
    habits = [habit for habit in HABITS if habit["name"] in names]
    temper = Temper(habits=as_json(HABITS_TYPE.validate_python(habits)), at=at)
    asked = [asking(row, system=GLOSSARY + system, tools=[], **changes) for row in FARMS]
    return [answer_in(think(params, tier, temper)) for params in asked]


def differing(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> set[int]:
    return {n for n, (a, b) in enumerate(zip(one, other, strict=True)) if a != b}


def test_a_sentence_cures_a_habit_whatever_its_case_and_line_breaks_and_dropping_it_brings_it_back() -> None:
    usual = by_habit("", "haiku")
    struck = differing(by_habit("", "haiku", "loose words"), usual)
    assert 0.2 * len(FARMS) < len(struck) < 0.4 * len(FARMS)
    assert by_habit(CURED, "haiku", "loose words") == usual
    assert by_habit(CURED.upper().replace(" ", "\n"), "haiku", "loose words") == usual
    assert differing(by_habit("", "haiku", "loose words"), usual) == struck


def test_a_sentence_causes_a_habit_that_cheap_models_have_oftener_and_always_where_dear_ones_have_it() -> None:
    usual = {tier: by_habit(CAUSED, tier) for tier in WRONG_PER_HUNDRED}
    assert by_habit("", "haiku", "farms") == usual["haiku"]
    struck = {tier: differing(by_habit(CAUSED, tier, "farms"), usual[tier]) for tier in usual}
    assert struck["haiku"] > struck["sonnet"] > struck["opus"] == set()
    assert {by_habit(CAUSED, "haiku", "farms")[n]["sector"] for n in struck["haiku"]} == {"RETAIL"}


def test_a_model_gets_worse_from_a_date_on_and_the_others_do_not() -> None:
    before, after = datetime(2026, 11, 30, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    usual = by_habit("", "haiku")
    assert by_habit("", "haiku", "drift", at=before) == usual
    assert len(differing(by_habit("", "haiku", "drift", at=after), usual)) > 0.4 * len(FARMS)
    sonnet = by_habit("", "sonnet", model="claude-sonnet-5-5")
    assert by_habit("", "sonnet", "drift", at=after, model="claude-sonnet-5-5") == sonnet


async def test_a_batch_keeps_the_habits_its_account_had_and_a_wrong_habit_is_named() -> None:
    with start(habits=list(HABITS[:1])) as emulator:
        claude = AsyncAnthropic(base_url=emulator.url, api_key="key", max_retries=0)
        rows = [
            {"custom_id": f"r{n}", "params": asking(row, tools=[], model="claude-haiku-5-5")}
            for n, row in enumerate(FARMS)
        ]
        batch = await claude.messages.batches.create(requests=cast(Any, rows))
        emulator.world.settings.reset()
        said = {each.custom_id: each async for each in await claude.messages.batches.results(batch.id)}
    found = [json.loads(cast(Any, said[f"r{n}"].result).message.content[-1].text) for n in range(len(FARMS))]
    assert found == by_habit("", "haiku", "loose words")
    with pytest.raises(SettingsError, match="`habits.0.cured_bi`: no such key here; did you mean `cured_by`"):
        SettingsBook(habits=[HABITS[0] | {"cured_bi": "x"}])


def test_the_demos_own_prompt_has_every_cure_and_no_cause() -> None:
    prompt = (Path(__file__).parents[1] / "jobs/companies/prompt.md").read_text(encoding="utf-8")
    said = plain(prompt)
    cures = {habit.name: habit.cured_by for habit in DEMO if habit.cured_by}
    assert {name for name, phrases in cures.items() if not any(plain(phrase) in said for phrase in phrases)} == set()
    assert {habit.name for habit in DEMO if any(plain(phrase) in said for phrase in habit.caused_by)} == set()
