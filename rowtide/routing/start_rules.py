"""Match rows against the rules of `start`: SQL conditions, asked by DuckDB over a page of rows at once.

A condition is an expression and nothing else. What it may be made of is listed here, and all else is refused when a job
is planned: other tables, functions that read files, settings or the clock, anything whose value could differ the next
time. Every column is text, whatever the source, so what a condition means never depends on the rows of a page.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import duckdb
import orjson
import pyarrow as pa

from rowtide.errors import UserMistake, nearest_name
from rowtide.job.job_file import JOB_FILE, line_of_key
from rowtide.job.job_spec import StartSpec
from rowtide.tiers.catalogue import Model

Values = Mapping[str, object]

LONGEST = 2000  # characters: DuckDB's parser goes as deep as brackets do
CLOSE = 0.75  # of 1: most functions that are refused are no slip of the pen

SANDBOX = {
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "max_temp_directory_size": "0KB",
    "memory_limit": "512MB",
    "threads": "1",  # rows come back in the order they went in
}
LOCK = (
    "PRAGMA disable_optimizer",  # it takes what two conditions share out of TRY, where a row that fails fails the page
    "SET lock_configuration = true",
)

PARTS = {"BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "OPERATOR"}
# Functions whose value depends on their arguments alone, and is not much longer than they are.
FUNCTIONS = {
    "lower", "upper", "trim", "ltrim", "rtrim", "substr", "substring", "left", "right", "length", "strlen",
    "char_length", "character_length", "starts_with", "prefix", "suffix", "ends_with", "contains", "position", "strpos",
    "instr", "split_part", "reverse", "strip_accents", "ascii", "unicode", "nfc_normalize", "concat", "concat_ws",
    "regexp_matches", "regexp_full_match", "regexp_extract", "like_escape", "ilike_escape", "not_like_escape",
    "not_ilike_escape", "levenshtein", "damerau_levenshtein", "hamming", "jaccard", "jaro_winkler_similarity", "abs",
    "round", "floor", "ceil", "ceiling", "trunc", "sign", "mod", "sqrt", "ln", "log", "log10", "log2", "exp", "pow",
    "power", "greatest", "least", "isnan", "isinf", "isfinite", "nullif", "if", "year", "month", "day", "quarter",
    "week", "dayofweek", "date_part", "date_diff", "datediff", "date_trunc", "make_date", "strptime", "try_strptime",
    "json_extract", "json_extract_string", "json_array_length", "json_type", "json_valid", "json_contains",
    "json_exists", "+", "-", "*", "/", "//", "%", "||", "**", "^", "~~", "!~~", "~~*", "!~~*", "~~~", "^@", "->", "->>",
}  # fmt: skip
TYPES = {
    "varchar", "text", "string", "boolean", "bool", "tinyint", "smallint", "integer", "int", "bigint", "hugeint",
    "double", "float", "real", "decimal", "numeric", "date", "time", "timestamp", "json",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StartRules:
    """Checked conditions, compiled into one query."""

    columns: list[str]
    """The columns they speak of."""
    query: str


def compile_rules(start: Sequence[StartSpec], columns: Sequence[str] | None, folder: Path) -> StartRules:
    """Return the start rules, each condition checked. `columns` are the source's; None: they were checked before.

    Raises UserMistake with the place in `job.yaml`, and the nearest column or function.
    """
    seen: dict[str, None] = {}
    with _connection() as connection:
        for number, rule in enumerate(start):
            try:
                found = _columns_in(_parsed(connection, rule.when), columns)
                _check_kind(connection, rule.when, found)
                seen |= dict.fromkeys(found)
            except UserMistake as mistake:
                raise _mistake(mistake.what, folder, number, "when", mistake.meant) from None
    _check_case(list(seen), folder)
    cases = " ".join(f"WHEN {_tried(rule.when)} THEN {number}" for number, rule in enumerate(start, 1))
    return StartRules(list(seen), f"SELECT CASE {cases} END FROM page")


def tier_of_rule(rule: StartSpec, number: int, tiers: Sequence[str], folder: Path) -> int:
    """Return the place on the ladder where the rows of a rule (numbered from 0) start. Raises UserMistake."""
    if rule.tier is None:
        return 0
    if rule.tier not in tiers:
        words = f"{rule.tier!r} is not on this job's ladder: {', '.join(tiers)}"
        raise _mistake(words, folder, number, "tier", nearest_name(rule.tier, tiers))
    return tiers.index(rule.tier)


def check_start_rules(
    start: Sequence[StartSpec], models: Sequence[Model], columns: Sequence[str], folder: Path
) -> None:
    """Raise UserMistake unless every rule names a tier, an effort its model knows, and a condition over the columns."""
    for number, rule in enumerate(start):
        model = models[tier_of_rule(rule, number, [model.alias for model in models], folder)]
        legal = model.efforts.legal
        if rule.effort is not None and rule.effort not in legal:
            words = f"{model.alias} does not know the effort {rule.effort!r}; it knows {', '.join(legal)}"
            raise _mistake(words, folder, number, "effort", model.effort(rule.effort))
    if start:
        compile_rules(start, columns, folder)


@contextmanager
def open_rule_matcher(rules: StartRules, folder: Path) -> Generator["RuleMatcher"]:
    """A RuleMatcher, open until the block ends."""
    with _connection() as connection:
        yield RuleMatcher(rules, connection, folder)


@dataclass(frozen=True, slots=True)
class RuleMatcher:
    """An empty in-memory database that sees one page of rows at a time."""

    rules: StartRules
    connection: duckdb.DuckDBPyConnection
    folder: Path

    def first_matches(self, page: Sequence[Values]) -> list[int | None]:
        """For each row the first rule, from 1, whose condition holds, or None; a condition that fails or is NULL does
        not hold.
        """
        _show(self.connection, self.rules.columns, page)
        try:
            found = self.connection.execute(self.rules.query).fetchall()
        except duckdb.OutOfMemoryException:
            words = f"a condition wants more than {SANDBOX['memory_limit']} for a page of {len(page):,} rows"
            raise UserMistake(words, file=self.folder / JOB_FILE, key="start") from None
        assert len(found) == len(page)
        return [number for (number,) in found]


def _mistake(words: str, folder: Path, number: int, key: str, meant: str | None) -> UserMistake:
    line = line_of_key(folder, "start", number, key)
    return UserMistake(words, file=folder / JOB_FILE, line=line, key=f"start.{number}.{key}", meant=meant)


@contextmanager
def _connection() -> Generator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(config=dict(SANDBOX))
    try:
        for setting in LOCK:
            connection.execute(setting)
        yield connection
    finally:
        connection.close()


def _show(connection: duckdb.DuckDBPyConnection, columns: Sequence[str], page: Sequence[Values]) -> None:
    """Load `page` as the table that conditions see. A table needs a column even where no condition uses one."""
    arrays = [pa.array([_text(row.get(column)) for row in page], pa.string()) for column in columns]
    nothing = pa.nulls(len(page), pa.string())
    connection.register("page", pa.table([*arrays, nothing], names=[*columns, "\x01"]))


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


def _tried(when: str) -> str:
    # On lines of its own, so that a comment ends with it.
    return f"TRY((\n{when}\n))"


def _parsed(connection: duckdb.DuckDBPyConnection, when: str) -> dict[str, Any]:
    """The expression as DuckDB's parser sees it; raises unless it is exactly one expression."""
    if not when.strip():
        raise UserMistake("an empty condition")
    if len(when) > LONGEST:
        raise UserMistake(f"{len(when):,} characters; a condition has at most {LONGEST:,}")
    if any(letter < " " and letter not in "\t\r\n" for letter in when):
        raise UserMistake("a condition holds no control characters")
    expression, around = _select(connection, when)
    if around != _select(connection, "true")[1]:
        raise UserMistake("a condition is one expression, and nothing beside it")
    return expression


def _select(connection: duckdb.DuckDBPyConnection, when: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The expressions that `SELECT (when)` selects, and the rest of the statement."""
    query = "SELECT json_serialize_sql($1::VARCHAR)"
    ((text,),) = connection.execute(query, [f"SELECT (\n{when}\n)"]).fetchall()
    parsed = orjson.loads(text)
    if parsed["error"]:
        raise UserMistake(f"not a condition: {str(parsed['error_message']).splitlines()[0]}")
    nodes = [each["node"] for each in parsed["statements"]]
    if len(nodes) != 1 or nodes[0]["type"] != "SELECT_NODE" or len(nodes[0]["select_list"]) != 1:
        raise UserMistake("a condition is one expression, and nothing beside it")
    (expression,) = nodes[0].pop("select_list")
    return expression, nodes[0]


def _columns_in(expression: dict[str, Any], columns: Sequence[str] | None) -> list[str]:
    """The columns an expression uses. Raises UserMistake for anything that is not allowed in one."""
    found: list[str] = []
    for node in _nodes(expression):
        kind = node["class"]
        if kind == "COLUMN_REF":
            found.append(_column(node["column_names"], columns))
        elif kind == "FUNCTION":
            _check_function(node)
        elif kind == "TYPE":
            _check_type(node)
        elif kind not in PARTS:
            what = {"SUBQUERY": "another query", "STAR": "all columns at once", "WINDOW": "other rows"}
            raise UserMistake(f"a condition cannot ask for {what.get(kind, kind.lower().replace('_', ' '))}")
    return found


def _nodes(part: Any) -> Iterator[dict[str, Any]]:
    """Every node of an expression that has a class, and the parts of every other mapping."""
    waiting = [part]
    while waiting:
        match waiting.pop():
            case dict() as mapping:
                if "class" in mapping:
                    yield cast(dict[str, Any], mapping)
                waiting.extend(cast(dict[str, Any], mapping).values())
            case list() as parts:
                waiting.extend(cast(list[Any], parts))
            case _:
                pass


def _column(names: Sequence[str], columns: Sequence[str] | None) -> str:
    name = ".".join(names)
    if len(names) != 1 or (columns is not None and name not in columns):
        known = columns or []
        listed = f"; columns: {', '.join(known)}" if known else ""
        raise UserMistake(f"{name!r} is not a column of the source{listed}", meant=nearest_name(name, known))
    return name


def _check_function(node: dict[str, Any]) -> None:
    name = str(node["function_name"])
    if name.lower() not in FUNCTIONS or node["schema"] or node["catalog"]:
        words = f"{name!r} is not a function a condition may use (it must give the same whenever it is asked)"
        raise UserMistake(words, meant=next(iter(get_close_matches(name.lower(), FUNCTIONS, cutoff=CLOSE)), None))


def _check_type(node: dict[str, Any]) -> None:
    name = str(node["type_name"])
    if name.lower() not in TYPES:
        words = f"{name} is not a type a condition may cast to; types: {', '.join(sorted(TYPES))}"
        raise UserMistake(words, meant=nearest_name(name.lower(), TYPES))


def _check_kind(connection: duckdb.DuckDBPyConnection, when: str, columns: Sequence[str]) -> None:
    """Raise UserMistake unless the condition is true or false over columns of text."""
    _show(connection, list(dict.fromkeys(columns)), [])
    try:
        asked = connection.execute(f"SELECT {_tried(when)} FROM page")
        kind = str(asked.description[0][1])
        asked.fetchall()  # a connection does one thing at a time
    except duckdb.Error as error:
        words = str(error).splitlines()[0].partition(": ")[2] or str(error)
        hint = "; every column is text: TRY_CAST(column AS DOUBLE)" if "cast" in words else ""
        raise UserMistake(words.partition(" You might need")[0] + hint) from None
    if kind != "BOOLEAN":
        raise UserMistake(f"is {kind.lower()}, not true or false")


def _check_case(columns: Sequence[str], folder: Path) -> None:
    """Raise UserMistake for columns that differ only in case: SQL cannot tell them apart."""
    seen: dict[str, str] = {}
    for name in columns:
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise UserMistake(f"a condition cannot tell {name!r} from {other!r}", file=folder / JOB_FILE, key="start")
