"""Jobs that the emulator knows nothing of.

It answers what they know in advance, makes up the rest so that it fits, and says what it made up.
"""

import json
from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import anthropic
import pytest
import yaml
from outside import Done, rowtide
from pydantic import BaseModel, Field, PastDate, create_model

from emulator.habits import Temper
from emulator.known_answers import AnswersError, KnownAnswers, read_answers
from emulator.minds import Thought, think

TICKETS = {n: f"subject: Parcel {n}\nbody: It never came, please look at it soon." for n in range(40)}


def reply(row: str, schema: dict[str, Any] | None, *, model: str = "claude-opus-5-5", **more: Any) -> Thought:
    """What a mind says to a row; `earlier` are the messages after the first."""
    messages = [{"role": "user", "content": row}, *more.get("earlier", [])]
    params: dict[str, Any] = {"model": model, "messages": messages, "system": more.get("system", "")}
    params["tools"] = more.get("tools", [])
    if schema is not None:
        params["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    tier = next(tier for tier in ("haiku", "sonnet", "opus") if tier in model)
    return think(params, tier, Temper(known=more.get("known", KnownAnswers())))


def said(thought: Thought) -> Any:
    return json.loads(thought.content[0]["text"])


class Part(BaseModel):
    """A part of a parcel."""

    name: Annotated[str, Field(min_length=3)]
    kind: Literal["a", "b"]


ANYTHING: dict[str, Any] = {
    "a whole number in a range": Annotated[int, Field(ge=1, le=5)],
    "one with a lower end": Annotated[int, Field(gt=1900)],
    "one with an upper end": Annotated[int, Field(le=-3)],
    "a multiple": Annotated[int, Field(ge=0, le=100, multiple_of=5)],
    "a share, ends excluded": Annotated[float, Field(gt=0, lt=1)],
    "a number in a narrow range": Annotated[float, Field(ge=0.001, le=0.002)],
    "a short text": Annotated[str, Field(max_length=12)],
    "a long text": Annotated[str, Field(min_length=120)],
    "a text of exactly so many": Annotated[str, Field(min_length=2, max_length=2)],
    "a code": Annotated[str, Field(pattern=r"^[A-Z]{3}-[0-9]{2}$")],
    "a code with a comma": Annotated[str, Field(pattern=r"^[a-z]{2,3}, no: [0-9]$")],
    "a day": date,
    "a moment": datetime,
    "a choice": Literal["low", "medium", "high"],
    "a choice with a way out": Literal["billing", "delivery", "other", "unknown"],
    "a list that is not empty": Annotated[list[Literal["a", "b"]], Field(min_length=1, max_length=2)],
    "a list of texts": Annotated[list[str], Field(min_length=1)],
    "a list of three": Annotated[list[str], Field(min_length=3, max_length=5)],
    "two objects": Annotated[list[Part], Field(min_length=2)],
    "a long code": Annotated[str, Field(pattern=r"^[a-z]+$", min_length=5, max_length=8)],
    "a telephone number": Annotated[str, Field(pattern=r"^\+?[1-9]\d{7,14}$")],
    "a day as a code": Annotated[str, Field(pattern=r"^(19|20)\d{2}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$")],
    "an amount": Decimal,
    "an id": UUID,
    "a day that is past": PastDate,
    "yes or no": bool,
    "perhaps": Annotated[int | None, Field(ge=3)],
}


@pytest.mark.parametrize("kind", ANYTHING)
def test_what_is_made_up_fits_the_jobs_own_model(kind: str) -> None:
    model: type[BaseModel] = create_model("Answer", field=(ANYTHING[kind], ...))
    schema = anthropic.transform_schema(model.model_json_schema())
    for row in TICKETS.values():
        for tier in ("haiku", "opus"):
            thought = reply(row, schema, model=f"claude-{tier}-5-5")
            if tier == "opus":  # a cheap one may break a limit by mistake
                model.model_validate_json(thought.content[0]["text"])


def test_a_choice_that_nothing_speaks_for_is_spread_over_its_values_and_said() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"urgency": {"enum": ["low", "medium", "high", "unknown"]}},
    }
    schema["required"] = ["urgency"]
    thoughts = [reply(row, schema) for row in TICKETS.values()]
    assert len(Counter(said(each)["urgency"] for each in thoughts)) == 4
    assert {each.made_up for each in map(as_said, thoughts)} == {
        ("nothing speaks for a value of urgency: it is made up",)
    }


def as_said(thought: Thought) -> Any:
    return type("Said", (), {"made_up": tuple(thought.made_up)})


def test_what_the_row_says_is_not_made_up() -> None:
    schema = {"type": "object", "properties": {"subject": {"type": "string"}}, "required": ["subject"]}
    thought = reply("subject: Parcel 3\nbody: late", schema)
    assert (said(thought), list(thought.made_up)) == ({"subject": "Parcel 3"}, [])


def test_a_made_up_text_quotes_the_row() -> None:
    schema = {"type": "object", "properties": {"gist": {"type": "string"}}, "required": ["gist"]}
    for row in (TICKETS[1], "It never came. Please look.", '{"body": "It never came"}'):
        assert said(reply(row, schema))["gist"] in row


QUERY = {"query": {"type": "string", "description": "SELECT SQL query to execute"}}
TOOLS: dict[str, tuple[dict[str, Any], str | None, list[str]]] = {
    "a statement in SQL": ({"name": "db__read_query", "properties": QUERY}, None, ["read_query.query"]),
    "one that only the tool speaks of": (
        {"name": "run", "description": "Run a SQL query.", "properties": {"query": {"type": "string"}}},
        None,
        ["run.query"],
    ),
    "sql by name": ({"name": "ask", "properties": {"sql": {"type": "string"}}}, None, ["ask.sql"]),
    "a regular expression": (
        {"name": "grep", "properties": {"pattern": {"type": "string", "description": "A regex to look for."}}},
        None,
        ["grep.pattern"],
    ),
    "a table": ({"name": "describe", "properties": {"table_name": {"type": "string"}}}, None, ["describe.table_name"]),
    "a path": ({"name": "read", "properties": {"path": {"type": "string"}}}, None, ["read.path"]),
    "an id that no row has": ({"name": "get", "properties": {"order_id": {"type": "string"}}}, None, ["get.order_id"]),
    "a search": ({"name": "search", "properties": {"query": {"type": "string"}}}, "Apple Inc.", []),
    "a column": ({"name": "find", "properties": {"name": {"type": "string"}}}, "Apple Inc.", []),
    "a column that is empty here": ({"name": "of_isin", "properties": {"isin": {"type": "string"}}}, None, []),
}  # fmt: skip


@pytest.mark.parametrize("kind", TOOLS)
def test_a_tool_is_called_with_what_the_row_has_or_it_is_said_what_is_lacking(kind: str) -> None:
    given, argument, lacking = TOOLS[kind]
    schema = {"type": "object", "properties": given["properties"], "required": [*given["properties"]]}
    tools = [{"name": given["name"], "description": given.get("description", ""), "input_schema": schema}]
    answer = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    thought = reply("name: Apple Inc.\ncity: Cupertino\nisins:", answer, tools=tools)
    called = [block["input"] for block in thought.content if block["type"] == "tool_use"]
    assert called == ([{next(iter(given["properties"])): argument}] if argument else [])
    assert list(thought.made_up) == [f"cannot fill {each}: this says nothing of your job" for each in lacking]


def known(folder: Path, text: str, name: str = "answers.yaml") -> KnownAnswers:
    (folder / name).write_text(text, encoding="utf-8")
    return read_answers(folder / name)


def test_known_answers_go_before_all_else_the_nearest_first(tmp_path: Path) -> None:
    text = (
        "- answer: {urgency: low, team: delivery}\n"
        "- {words: never came, answer: {urgency: medium}}\n"
        f"- {{row: {json.dumps(TICKETS[3])}, answer: {{urgency: high}}}}\n"
    )
    for file in (known(tmp_path, text), known(tmp_path, as_lines(text), "answers.jsonl")):
        choices = {"urgency": ["low", "medium", "high"], "team": ["billing", "delivery"]}
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {name: {"enum": values} for name, values in choices.items()},
        }
        schema["required"] = [*choices]
        rows = {"of this row": TICKETS[3], "of these words": TICKETS[4], "of every row": "subject: hello"}
        found = {which: reply(row, schema, known=file, model="claude-haiku-5-5") for which, row in rows.items()}
        assert {which: said(each)["urgency"] for which, each in found.items()} == {
            "of this row": "high", "of these words": "medium", "of every row": "low"
        }  # fmt: skip
        assert {said(each)["team"] for each in found.values()} == {"delivery"}
        assert not any(each.made_up for each in found.values())


def as_lines(text: str) -> str:
    return "".join(json.dumps(each) + "\n" for each in yaml.safe_load(text))


def test_a_known_answer_that_does_not_fit_is_not_said_and_that_is_said(tmp_path: Path) -> None:
    file = known(tmp_path, "- answer: {urgency: hgih}\n")
    schema = {"type": "object", "properties": {"urgency": {"enum": ["low", "high"]}}, "required": ["urgency"]}
    thought = reply(TICKETS[1], schema, known=file)
    assert said(thought)["urgency"] in ("low", "high")
    assert "the answer given for urgency, 'hgih', does not fit the schema: it is not said" in thought.made_up


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("urgency: low", "Input should be a valid list"),
        ("- {urgency: low}", "0.answer: Field required"),
        ("- {row: a, words: b, answer: {}}", "0: `row` or `words`, not both"),
        ("- [", "while parsing"),
    ],
)
def test_a_file_of_answers_that_cannot_be_read_says_where(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(AnswersError, match="answers.yaml") as found:
        known(tmp_path, text)
    assert words in str(found.value)


def test_a_better_mind_mends_what_it_is_told_of_and_the_best_mends_all() -> None:
    """So a row that each tier gets wrong at first still comes out right."""
    schema = {"type": "object", "properties": {"urgency": {"enum": ["low", "medium", "high"]}}, "required": ["urgency"]}
    mended = Counter[str]()
    for row in TICKETS.values():
        wrong = said(reply(row, schema))["urgency"]
        right = next(value for value in ("low", "medium", "high") if value != wrong)
        told = f"Not accepted: urgency: it says '{wrong}', but the record speaks for '{right}'."
        earlier = [{"role": "assistant", "content": json.dumps({"urgency": wrong})}, {"role": "user", "content": told}]
        for tier in ("haiku", "sonnet", "opus"):
            again = reply(row, schema, model=f"claude-{tier}-5-5", earlier=earlier)
            mended[tier] += said(again)["urgency"] == right
    assert 0 < mended["haiku"] < mended["sonnet"] < mended["opus"] == len(TICKETS)


# Two jobs of a stranger's, as commands

JOB = """
source: {{path: rows.csv}}
key: id
tiers: [haiku, sonnet]
{more}
sink: {{kind: jsonl, path: results}}
"""
LABELS = ("low", "medium", "high")
TEAMS = ("billing", "delivery", "returns", "other")
SQL_SERVER = """
# Nothing of the MCP library: JSON-RPC by hand, and the tools of a well-known SQLite server, word for word.
import json, sys
def tool(name, words, properties):
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": name, "description": words, "inputSchema": schema}
text = lambda words: {"type": "string", "description": words}
TOOLS = [
    tool("read_query", "Execute a SELECT query on the SQLite database", {"query": text("SELECT SQL query to execute")}),
    tool("list_tables", "List all tables in the SQLite database", {}),
    tool("describe_table", "Get the schema information for a table", {"table_name": text("Name of the table")}),
]
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    result = {
        "initialize": lambda: {"protocolVersion": asked["params"]["protocolVersion"], "capabilities": {"tools": {}},
                               "serverInfo": {"name": "sqlite", "version": "0.1.0"}},
        "tools/list": lambda: {"tools": TOOLS},
        "tools/call": lambda: {"content": [{"type": "text", "text": "[{'name': 'sales'}]"}], "isError": False},
    }.get(asked["method"])
    said = {"result": result()} if result else {"error": {"code": -32601, "message": "no such method"}}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], **said}), flush=True)
"""


def write_job(
    folder: Path, answer: str, rows: str, more: str = "", prompt: str = "Sort it.\n---\n{{ subject }}"
) -> Path:
    folder.mkdir(parents=True)
    texts = {"job.yaml": JOB.format(more=more), "answer.py": answer, "rows.csv": rows, "prompt.md": prompt}
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def tickets(folder: Path) -> Path:
    answer = (
        "from typing import Literal\nfrom pydantic import BaseModel, Field\n"
        f"class Answer(BaseModel):\n    urgency: Literal{list(LABELS)}\n    team: Literal{list(TEAMS)}\n"
        "    effort: int = Field(ge=1, le=5)\n    gist: str = Field(min_length=5, max_length=40)\n"
    )
    rows = "id,subject\n" + "".join(f"T-{n},Parcel number {n} is late\n" for n in range(20))
    job = write_job(folder / "tickets", answer, rows)
    golden = [{"key": f"T-{n}", "answer": {"urgency": LABELS[n % 3], "team": TEAMS[n % 4]}} for n in range(10)]
    (job / "golden.jsonl").write_text("".join(json.dumps(each) + "\n" for each in golden))
    (job / "answers.yaml").write_text('T-15: {urgency: high, effort: 5}\n"*": {team: other}\n')
    return job


def ask(folder: Path, *words: str | Path) -> Done:
    return rowtide(
        *words,
        environment={"ROWTIDE_HOME": str(folder / "home"), "ANTHROPIC_API_KEY": None, "ROWTIDE_LEDGER": None},
        folder=folder,
    )


def test_a_strangers_choice_scores_on_the_emulator_as_its_golden_file_says(tmp_path: Path) -> None:
    job = tickets(tmp_path)
    done = ask(tmp_path, "run", job, "--json")
    assert (done.status, done.summary["loaded"]) == (0, 20), done.err
    answers = {each["row_key"]: each for each in loaded(tmp_path)}
    for n in range(10):
        assert (answers[f"T-{n}"]["urgency"], answers[f"T-{n}"]["team"]) == (LABELS[n % 3], TEAMS[n % 4])
    assert (answers["T-15"]["urgency"], answers["T-15"]["effort"]) == ("high", 5)
    assert {answers[f"T-{n}"]["team"] for n in range(10, 20)} == {"other"}
    made_up = done.summary["invented"]
    assert made_up["nothing speaks for a value of urgency, effort, gist: it is made up"] == 9
    assert made_up["nothing speaks for a value of effort, gist: it is made up"] == 10


def loaded(folder: Path) -> list[dict[str, Any]]:
    files = sorted((folder / "home").rglob("results/**/*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_a_strangers_sql_tool_is_not_called_with_nonsense_and_every_row_says_so(tmp_path: Path) -> None:
    more = "tools:\n  db: {command: python, args: [server.py], read_only: [read_query, list_tables, describe_table]}\n"
    answer = "from pydantic import BaseModel\nclass Answer(BaseModel):\n    revenue: float\n"
    job = write_job(tmp_path / "sales", answer, "id,subject\n1,Apple\n2,Shell\n", more)
    (job / "server.py").write_text(SQL_SERVER)
    done = ask(tmp_path, "run", job)
    cannot = "cannot fill read_query.query: this says nothing of your job"
    assert f"made up  2 rows: {cannot}" in done.out, done.err
    shown = ask(tmp_path, "show", "1").out
    assert "it called db.list_tables()" in shown and "read_query(" not in shown
    assert f"the emulator says of it: {cannot}" in shown


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("T-1: {urgncy: low}", "answers.yaml:1", "the answer has no field 'urgncy'"),
        ("# mine\nT-1: high", "answers.yaml:2", "to fields of the answer"),
        ("- T-1", "answers.yaml", "to fields of the answer"),
        ("T-1: {urgency: low}\nT-1: {urgency: high}", "answers.yaml:2", "stands twice"),
    ],
)
def test_a_mistake_in_answers_yaml_is_named_with_its_line(tmp_path: Path, text: str, where: str, words: str) -> None:
    job = tickets(tmp_path)
    (job / "answers.yaml").write_text(text)
    done = ask(tmp_path, "run", job)
    assert (done.status, where in done.err, words in done.err) == (2, True, True), done.err


def test_a_purge_takes_away_what_the_emulator_was_told_of_rows(tmp_path: Path) -> None:
    job = tickets(tmp_path)
    assert ask(tmp_path, "run", job).status == 0
    assert [*(tmp_path / "home").rglob("emulator_answers/tickets.jsonl")]
    (run,) = (path.stem for path in (tmp_path / "home").rglob("reports/*.html"))
    done = ask(tmp_path, "purge", "--run", run, "--yes")
    assert (done.status, [*(tmp_path / "home").rglob("emulator_answers/*")]) == (0, []), done.err
