"""Models are lines of config: what an operator says over them takes effect, and what is wrong with it is named."""

from pathlib import Path
from typing import Any

import pytest

from rowtide.errors import UserMistake
from rowtide.lanes.lane_table import BATCH, LIVE
from rowtide.tiers.catalogue import load_catalogue, parse_overrides, read_overrides
from rowtide.tiers.pricing import Usage, cost_micro

LONG = Usage(input_tokens=150_000, output_tokens=0)


def catalogue(**said: Any) -> Any:
    return load_catalogue(parse_overrides(said, "ladder.yaml"))


def haiku(**said: Any) -> Any:
    return catalogue(models={"haiku": said}).tier("haiku")


def test_every_packaged_model_says_when_and_where_its_price_was_read() -> None:
    for model in load_catalogue().models.values():
        assert model.priced_on.year >= 2026
        assert model.source


def test_a_price_an_id_a_limit_a_rule_or_a_step_is_one_line() -> None:
    assert haiku(prices={"0": {"input": "0.2"}}).price_at(10).input * 10 == 2
    assert haiku(id="another-one").id == "another-one"
    assert haiku(max_output_tokens=9).max_output_tokens == 9
    assert haiku(efforts={"legal": ["low", "medium"]}).effort("max") == "medium"
    assert haiku(thinking={"send": "disabled"}).thinking_at("high") == "disabled"
    assert cost_micro(haiku(prices={"100000": None}), LONG, lane=LIVE) == 15_000  # no step: 150,000 × 0.10
    assert cost_micro(load_catalogue().tier("haiku"), LONG, lane=LIVE) == 75_000
    assert cost_micro(haiku(batch_share="0.25"), LONG, lane=BATCH) == 18_750


def test_the_rest_of_an_entry_stays_as_it_is_packaged() -> None:
    packaged, changed = load_catalogue().tier("haiku"), haiku(prices={"0": {"input": "0.2"}})
    assert changed.price_at(10).output == packaged.price_at(10).output
    assert changed.model_copy(update={"prices": packaged.prices}) == packaged


def test_a_model_that_nobody_knew_is_an_entry_of_its_own() -> None:
    entry = load_catalogue().tier("opus").model_dump(exclude={"alias"})
    assert catalogue(models={"next": entry | {"id": "next-1"}}, tiers={"*": ["next"]}).tier("next").id == "next-1"


def test_a_ladder_is_the_jobs_own_unless_an_operator_says_otherwise() -> None:
    said = catalogue(tiers={"companies": ["haiku", "opus"], "*": ["sonnet"]})
    assert said.ladder("companies", ["haiku"]) == ["haiku", "opus"]
    assert said.ladder("tickets", ["haiku"]) == ["sonnet"]
    assert load_catalogue().ladder("tickets", ["haiku"]) == ["haiku"]


def test_an_effort_a_model_has_not_is_the_nearest_below_and_thinking_goes_only_with_efforts_it_may() -> None:
    model = haiku(efforts={"legal": ["medium", "high"]}, thinking={"send": "disabled"})
    assert [model.effort(each) for each in (None, "low", "high", "max")] == [None, "medium", "high", "high"]
    assert [model.thinking_at(each) for each in (None, "high", "max")] == ["disabled", "disabled", None]
    assert load_catalogue().tier("haiku").thinking_at(None) is None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"modles": {}}, ["ladder.yaml: modles", "did you mean 'models'"]),
        ({"models": {"haikoo": {"id": "x"}}}, ["models.haikoo", "did you mean 'haiku'"]),
        ({"models": {"haiku": {"idd": "x"}}}, ["models.haiku.idd", "did you mean 'id'"]),
        ({"models": {"haiku": {"prices": {"0": {"inptu": "1"}}}}}, ["models.haiku.prices.0.inptu", "'input'"]),
        ({"models": {"haiku": {"prices": {"0": None}}}}, ["models.haiku", "one must begin above 0"]),
        ({"models": {"haiku": {"max_output_tokens": "many"}}}, ["models.haiku.max_output_tokens", "many"]),
        ({"models": {"haiku": {"efforts": {"default": "hihg"}}}}, ["models.haiku.efforts.default", "'high'"]),
        ({"models": {"haiku": {"efforts": {"legal": ["low"]}}}}, ["models.haiku.efforts", "'medium' is not among low"]),
        ({"models": {"haiku": {"thinking": {"send": "off"}}}}, ["models.haiku.thinking", "'off' cannot be sent"]),
        ({"models": {"haiku": {"alternatives": ["sonet"]}}}, ["models.haiku.alternatives", "did you mean 'sonnet'"]),
        ({"tiers": {"companies": ["haiku", "opuss"]}}, ["tiers.companies", "did you mean 'opus'"]),
        ({"tiers": {"*": []}}, ["tiers.*"]),
    ],
)
def test_a_mistake_is_named_with_its_place_its_key_and_the_nearest_name(said: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserMistake) as caught:
        catalogue(**said)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="ROWTIDE_MODELS: no such file"):
        read_overrides(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("models: {haiku\n")
    with pytest.raises(UserMistake, match="bad.yaml:2: not YAML"):
        read_overrides(tmp_path / "bad.yaml")


def test_an_unknown_tier_is_named_with_the_nearest() -> None:
    with pytest.raises(UserMistake, match="'haikoo' is not a tier.*did you mean 'haiku'"):
        load_catalogue().tier("haikoo")


def test_an_id_the_api_does_not_know_is_named_with_its_line_and_the_nearest_known_one() -> None:
    ours = load_catalogue()
    assert f"models.haiku.id: the API has no model '{ours.tier('haiku').id}'" in ours.unknown_id("haiku")
    mistyped = catalogue(models={"haiku": {"id": ours.tier("haiku").id + "5"}})
    assert mistyped.unknown_id("haiku").startswith("ladder.yaml: models.haiku.id")
    assert f"did you mean '{ours.tier('haiku').id}'" in mistyped.unknown_id("haiku")
