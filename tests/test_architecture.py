"""The house rules a machine can hold. A failure names the file, the line and the rule.

To bend a rule, change its constant here: one line in a diff, so it is talked about.
"""

import ast
import io
import os
import re
import subprocess
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import arrows

ROOT = Path(__file__).parent.parent

# Each may import those after it. `cli` stands above `flows`: docs/decisions/0003.
LAYERS = ["cli", "webhooks", "flows", "tasks", "orchestration", "blocks", "configuration", "rowtide"]
PRODUCT = [*LAYERS, "emulator"]

# A rule takes values and gives values back. Stages, the ledger and the modules at the root are edges: they touch disk,
# network, database or other programs. In the other folders of rowtide/ a module is a rule, unless it stands here: it is
# the one door to something outside.
EDGE_FOLDERS = {"stages", "ledger"}
DOORS = {
    "evals": {"job_golden"},
    "gates": {"gate_files", "page_judging", "expectation_counts", "whole_run"},
    "intake": {"csv_records", "webhook_row_rules", "json_lines", "parquet_rows", "sources", "sql_rows"},
    "api": {"claude", "api_errors", "api_schema", "secret_placeholders"},
    "job": {"job_folder"},
    "observing": {"bounded_threads", "event_log", "repeated_log_lines", "supervision"},
    "routing": {"start_rules"},
    "sinks": {
        "rehearsal_sink", "sink_duckdb", "sink_files", "sink_formats", "sink_sql", "sinks", "table_types",
    },
    "tools": {
        "function_host", "function_sessions", "http_bounds", "kept_pool", "programs", "registry_search",
        "server_lookup", "sessions", "tool_servers", "tool_sessions", "tools", "trust",
    },
}  # fmt: skip
ROOT_RULES = {"binomial", "json_bytes", "errors", "escaping", "text_format", "environment_numbers", "masking", "extras"}

HEAVY = {
    "altair": {"rowtide/report/charts.py"},
    "vl_convert": {"rowtide/report/charts.py"},
    "anthropic": {"rowtide/api/claude.py", "rowtide/api/api_errors.py", "rowtide/api/api_schema.py"},
    # A client's door, and that of the process in which a job's functions run: no process goes through both.
    "mcp": {"rowtide/tools/tool_sessions.py", "rowtide/tools/function_host.py"},
    "mcp_types": {"rowtide/tools/tool_sessions.py", "rowtide/tools/function_host.py"},
    "duckdb": {
        "rowtide/routing/start_rules.py",
        "rowtide/sinks/sink_duckdb.py",
        "rowtide/stages/report/results_table.py",
        "rowtide/stages/create_job/profile_source.py",
        "rowtide/stages/create_job/json_array.py",
    },
    "python_calamine": {"rowtide/stages/create_job/spreadsheet.py"},
    "great_expectations": {"rowtide/gates/gate_files.py"},
    "starlette": {"webhooks/receiver.py"},
    "uvicorn": {"webhooks/http_server.py"},
    "h11": {"webhooks/http_server.py"},
    "standardwebhooks": {"rowtide/intake/signatures.py"},
    "opentelemetry": {"rowtide/tracing.py", "rowtide/span_export.py"},
    "prometheus_client": {"webhooks/prometheus.py"},
    "pythonjsonlogger": {"orchestration/set_up_observability.py"},
    "sklearn": {"rowtide/stages/route/router_fit.py"},
    "scipy": {"rowtide/binomial.py"},
    "rich": {"cli/output.py", "cli/progress.py"},  # what a terminal would obey is written out there
    "sqlalchemy": {
        str(path.relative_to(ROOT)) for path in (ROOT / "rowtide/ledger").rglob("*.py")
    }  # only here, and at a source's or a sink's own tables, is SQL
    | {"rowtide/intake/sql_rows.py", "rowtide/database_url.py"}
    | {f"rowtide/sinks/{n}.py" for n in ("sinks", "sink_sql", "sink_duckdb", "table_types")},
}
# What a decision has no use for: the machine, the network, the clock.
OUTSIDE = {
    "anthropic", "asyncio", "duckdb", "great_expectations", "httpx", "httpx2", "mcp", "os", "socket", "sqlalchemy",
    "subprocess", "tempfile", "threading", "time",
}  # fmt: skip
ALLOWED = {("job_code", "threading")}  # a signal ends code that hangs, and signals come to the main thread alone

FILE_LINES = {"flows": 80, "tasks": 110}  # a task: its effect, and how a later process goes on with it
PRODUCT_FILE_LINES = 300
SCHEMA_LINES = {"rowtide/ledger/schema.py": 500, "rowtide/job/job_spec.py": 500}  # read from top to bottom
FUNCTION_LINES = 40  # without its docstring: a command's is what `--help` teaches
LATE = {
    "cli/late_prefect.py",  # Prefect takes seconds to import: only who runs under it pays for it
    "rowtide/intake/signatures.py",  # an extra: only who signs needs it
    "rowtide/routing/features.py",  # an extra: only a job that has a router needs it
    "rowtide/gates/gate_files.py",  # Great Expectations takes seconds to import: only a job with a gate pays for it
    "rowtide/tracing.py",  # OpenTelemetry's SDK is an extra: only who wants spans needs it
}
# Where `except Exception` stands, and what may be raised there: it becomes data with a reason, or a logged restart.
BOUNDARIES = {
    "rowtide/job/job_code.py": "code of a job's: checks, validators, serializers, templates; it costs its row",
    "webhooks/prometheus.py": "a look at the ledger in a thread: figures are given without it",
    "rowtide/observing/bounded_threads.py": "a call in a thread: whoever waits for it gets what it raised",
    "rowtide/observing/supervision.py": "background threads and tasks: logged, counted, started again with backoff",
    "rowtide/tools/function_host.py": "a job's own functions, in their own process: it costs the call, or the start",
    "rowtide/tools/tool_sessions.py": "a tool call: a foreign program on the other side; the model reads what happened",
}
MARKUP = {Path("rowtide/escaping.py"), Path("rowtide/report/charts.py")}  # charts: SVG, of names made visible
EXPORTS = {Path("blocks/__init__.py")}  # `prefect block register -m blocks` looks nowhere else
FOLDER_MODULES = 40  # of one folder of rowtide/: the ledger has most

SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "core", "base", "manager", "service", "handler"}
# Words that this project had for itself and that the field does not know: docs/glossary.md has what took their place.
RETIRED = {
    "rung", "rungs", "climb", "climbs", "climbed", "stay", "stays", "swarm", "remark", "remarks", "doubt", "doubts",
    "doubtful", "settle", "settles", "wall", "walls", "walled", "bury", "stray", "heard", "hear", "said", "told",
    "spoken", "checking", "lengthen", "lengthens", "longer", "outage", "outages", "facts", "spread", "spreads",
    "tally", "tallies", "glance", "story", "foresee", "foreseen", "vouch", "vouched", "mend", "mended", "happened",
    "happenings", "trouble", "set_aside", "see_to", "second_look", "stand_in", "who_answers",
}  # fmt: skip
MODEL_ID = re.compile(r"claude-(haiku|sonnet|opus|fable|mythos)-")
MACHINE = re.compile(r"(?<![\w.}])/(root|opt|Users|srv|home|work)/\w|\b[A-Z]:\\\w")
# Put together from pieces, so that no file holds what no file may hold, this one included.
REGISTRY = re.compile(
    "|".join(
        "".join(pieces)
        for pieces in (
            ("pypi", r"\.org/simple"),
            ("python", "hosted"),
            ("registry", r"\.npmjs"),
            ("index", "-url"),
            ("find", "-links"),
            (r"\bindex", "_url"),
        )
    )
)
EXCEPTION = re.compile(r"(noqa|type: ignore|pyright: ignore|no cover)(: ?[A-Z]+\d+(, ?[A-Z]+\d+)*|\[[^]]*\])?")


@cache
def tracked() -> list[Path]:
    """Every file git tracks or would, relative to the root; without git, every file not hidden."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        walked = (Path(folder) / name for folder, _, names in os.walk(ROOT) for name in names)
        listed = [str(path.relative_to(ROOT)) for path in walked]
        listed = [
            name
            for name in listed
            if not re.search(r"(^|/)(\.(?!ci|github|gitignore)|__pycache__|[^/]*egg-info)", name)
        ]
    return sorted(Path(name) for name in listed if (ROOT / name).is_file())


def python_files(*folders: str) -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py" and path.parts[0] in folders]


@cache
def text_of(path: Path) -> str:
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(text_of(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import; `from rowtide import work` counts as rowtide.stages.run_context."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if (ROOT / module.replace(".", "/")).is_dir() and module.split(".")[0] in PRODUCT:
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def comments(path: Path) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text_of(path)).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def refuse(rule: str, offenders: list[str]) -> None:
    assert not offenders, f"{rule}:\n  " + "\n  ".join(offenders)


def test_imports_point_one_way() -> None:
    above = {layer: {"emulator", "jobs", "benchmarks", "tests", *LAYERS[:n]} for n, layer in enumerate(LAYERS)}
    above["emulator"] = {"jobs", "benchmarks", "tests", *LAYERS}
    refuse(
        f"imports run {' → '.join(LAYERS)}, and the emulator imports none of ours",
        [
            f"{path}:{line} imports {module}"
            for path in python_files(*PRODUCT)
            for line, module in imports(path)
            if module.split(".")[0] in above[path.parts[0]]
        ],
    )


def test_rowtide_knows_nothing_of_prefect() -> None:
    found = [
        f"{path}:{line}"
        for path in python_files("rowtide")
        for line, module in imports(path)
        if module.startswith("prefect")
    ]
    refuse("rowtide never imports prefect; what needs it is a task or a block", found)


def is_edge(path: Path) -> bool:
    """Whether a module of rowtide/ touches the outside: by its folder, or because it is a door."""
    folder = path.parts[1] if len(path.parts) > 2 else ""
    if not folder:
        return path.stem not in ROOT_RULES
    return folder in EDGE_FOLDERS or path.stem in DOORS.get(folder, set())


def test_rules_never_import_edges_or_the_outside() -> None:
    edges = {".".join(path.with_suffix("").parts) for path in python_files("rowtide") if is_edge(path)}
    refuse(
        "a rule takes values and gives one back: let a stage or a task fetch what it needs",
        [
            f"{path}:{line} imports {module}"
            for path in python_files("rowtide")
            if not is_edge(path)
            for line, module in imports(path)
            if (path.stem, module) not in ALLOWED and (module.split(".")[0] in OUTSIDE or module in edges)
        ],
    )
    doors = {Path("rowtide", folder, f"{name}.py") for folder, names in DOORS.items() for name in names}
    refuse("this door is listed in DOORS but is gone", [str(path) for path in sorted(doors - set(tracked()))])


def test_no_folder_of_rowtide_imports_one_above_it() -> None:
    refuse("tests/arrows.py says in which order the folders stand", [str(arrow) for arrow in arrows.back(ROOT)])


def test_each_heavy_library_has_one_door() -> None:
    refuse(
        "a heavy library is imported in its own module only, and its types stop there",
        [
            f"{path}:{line} imports {module}"
            for path in python_files(*LAYERS)
            for line, module in imports(path)
            if str(path) not in HEAVY.get(module.split(".")[0], {str(path)})
        ],
    )


def test_nothing_is_imported_inside_a_function() -> None:
    refuse(
        "imports stand at the top of a file",
        [
            f"{path}:{inner.lineno}"
            for path in python_files(*PRODUCT)
            if str(path) not in LATE
            for function in functions(path)
            for inner in ast.walk(function)
            if isinstance(inner, ast.Import | ast.ImportFrom)
        ],
    )


def test_files_and_functions_stay_small() -> None:
    def budget(path: Path) -> int:
        return SCHEMA_LINES.get(str(path), FILE_LINES.get(path.parts[0], PRODUCT_FILE_LINES))

    long_files = [
        f"{path}: {lines} lines, at most {budget(path)}"
        for path in python_files(*PRODUCT)
        if (lines := len(text_of(path).splitlines())) > budget(path)
    ]
    long_functions = [
        f"{path}:{function.lineno} {function.name}: {lines} lines, at most {FUNCTION_LINES}"
        for path in python_files(*PRODUCT)
        for function in functions(path)
        if (lines := _code_lines(function)) > FUNCTION_LINES
    ]
    refuse("a file or a function has become two things", long_files + long_functions)


def _code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    says = function.body[0] if ast.get_docstring(function) else None
    told = (says.end_lineno or 0) - says.lineno + 1 if says else 0
    return (function.end_lineno or 0) - function.lineno + 1 - told


def test_a_folder_of_rowtide_is_small_and_not_deep() -> None:
    modules = [path for path in python_files("rowtide") if path.stem != "__init__"]
    deep = {"stages", "ledger"}  # a folder for each stage, and one for what only reads
    refuse("too deep", [str(path) for path in modules if len(path.parts) > 3 + (path.parts[1] in deep)])
    folders = Counter(str(path.parent) for path in modules)
    refuse("ask what has become two things", [f"{f}: {n}" for f, n in folders.items() if n > FOLDER_MODULES])


def test_names_say_something() -> None:
    def words(name: str) -> set[str]:
        return set(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_"))

    modules = [
        str(path)
        for path in python_files(*PRODUCT, "tests", "benchmarks", "docs", "jobs")
        if words(path.stem) & SAYS_NOTHING
    ]
    folders = sorted({str(path.parent) for path in tracked() if words(path.parent.name) & SAYS_NOTHING})
    defined = [
        f"{path}:{node.lineno} {node.name}"
        for path in python_files(*PRODUCT)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and words(node.name) & SAYS_NOTHING
    ]
    refuse(f"none of these words: {', '.join(sorted(SAYS_NOTHING))}", modules + folders + defined)


def test_retired_words_are_in_no_name() -> None:
    """Of modules, functions, classes, arguments, variables, attributes; and of tables and columns."""

    def is_retired(name: str) -> bool:
        plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
        return bool(RETIRED & {*plain.split("_")}) or any("_" in word and word in plain for word in RETIRED)

    found = {str(path) for path in python_files(*LAYERS) if is_retired(path.stem)}
    for path in python_files(*LAYERS):
        for node in ast.walk(tree_of(path)):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    named = name
                case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                    named = name
                case _:
                    continue
            if is_retired(named):
                found.add(f"{path}:{node.lineno} {named}")
    schemas = [tree_of(Path(f"rowtide/ledger/{name}.py")) for name in ("schema", "eval_schema")]
    nodes = [node for each in schemas for node in ast.walk(each)]
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    named_first = [call.args[0] for call in calls if call.func.id in ("table", "Column", "Index") and call.args]
    columns = [each.value for each in named_first if isinstance(each, ast.Constant)]
    assert {"row_no", "note", "batch_by_state", "eval_row"} <= {*columns}, "the schema is read by its shape"
    refuse("the glossary has the field's word for it", [*sorted(found), *filter(is_retired, columns)])


def test_a_flow_or_task_file_has_the_name_of_its_one_public_function() -> None:
    found: list[str] = []
    for path in python_files("flows", "tasks", "orchestration"):
        nodes = tree_of(path).body
        public = [
            node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        ]
        public = [name for name in public if not name.startswith("_")]
        if path.stem != "__init__" and public != [path.stem]:
            found.append(f"{path}: {', '.join(public) or 'nothing'}")
    refuse("tasks/submit.py holds `submit` and nothing else that is public", found)


def test_packages_export_nothing() -> None:
    found = [path for path in python_files(*PRODUCT) if path.stem == "__init__" and path not in EXPORTS]
    refuse("an __init__.py is empty or a docstring", [str(p) for p in found if tree_of(p).body[1:] or list(imports(p))])


def test_everything_is_caught_at_named_boundaries_only() -> None:
    def is_broad(node: ast.ExceptHandler) -> bool:
        caught = ast.unparse(node.type) if node.type else "BaseException"
        return bool(re.search(r"\b(Base)?Exception\b", caught))

    places = {
        str(path)
        for path in python_files(*PRODUCT)
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler) and is_broad(node)
    }
    refuse("`except Exception` stands at a boundary; name it in BOUNDARIES", sorted(places - BOUNDARIES.keys()))
    refuse("a boundary of BOUNDARIES is gone", sorted(BOUNDARIES.keys() - places))


def test_a_todo_names_its_issue() -> None:
    marked = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    found = [
        f"{path}:{line} {comment}"
        for path in tracked()
        if path.suffix == ".py"
        for line, comment in comments(path)
        if marked.search(comment) and not re.search(r"#\d+", comment)
    ]
    refuse("write TODO (#12): …, or do it", found)


def test_every_exception_to_a_check_says_why() -> None:
    found = [
        f"{path}:{line} {comment}"
        for path in tracked()
        if path.suffix == ".py"
        for line, comment in comments(path)
        if EXCEPTION.search(comment) and len(EXCEPTION.sub("", comment).strip("# :-")) < 5
    ]
    lines = text_of(Path("pyproject.toml")).splitlines()
    is_setting = [bool(re.match(r'\s*("[A-Z]+\d+",|report\w+ = (false|"none"))', line)) for line in lines]
    settings = [  # settings that follow each other may share the first one's reason
        f"pyproject.toml:{n + 1} {line.strip()}"
        for n, line in enumerate(lines)
        if is_setting[n] and not is_setting[n - 1] and "#" not in line
    ]
    refuse("say on the same line why the check does not apply", found + settings)


def test_no_test_folder_shares_a_name_with_a_package() -> None:
    packages = {path.parts[0] for path in tracked() if len(path.parts) > 1}
    folders = {part for path in tracked() if path.parts[0] == "tests" for part in path.parts[1:-1]}
    refuse("pytest would import one for the other", sorted(packages & folders))


def test_markdown_and_log_lines_are_made_where_text_is_escaped() -> None:
    """Prefect is only shown `Markdown`, which the type checker holds; nobody else may call plain text so."""

    def is_refused(path: Path, node: ast.AST) -> bool:
        match node:
            case ast.Call(func=ast.Name(id="Markdown" | "Markup")):
                return path not in MARKUP
            case ast.Call(func=ast.Attribute(attr="getLogger"), args=[ast.Name("__name__") | ast.Constant("rowtide")]):
                return path != Path("rowtide/observing/event_log.py")
            case ast.Constant(value=str(words)):
                return path not in MARKUP and bool(re.search(r"\|-|^\| | \|$", words))
            case _:
                return False

    found = [
        f"{path}:{getattr(node, 'lineno', '?')} {ast.unparse(node)[:80]}"
        for path in python_files("rowtide", "orchestration", "tasks", "flows", "blocks")
        for node in ast.walk(tree_of(path))
        if is_refused(path, node)
    ]
    refuse("text is escaped in rowtide/escaping.py; a module logs by event_log.logger(__name__)", found)


def test_tests_use_the_real_thing_and_never_sleep() -> None:
    def is_refused(node: ast.AST) -> bool:
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            return called.split(".")[-1] == "sleep" or called in {
                "monkeypatch.setattr",
                "mocker.patch",
                "patch",
                "mock.patch",
            }
        return isinstance(node, ast.Import | ast.ImportFrom) and "mock" in ast.unparse(node)

    found = [
        f"{path}:{getattr(node, 'lineno', '?')} {ast.unparse(node)}"
        for path in python_files("tests")
        for node in ast.walk(tree_of(path))
        if is_refused(node)
    ]
    refuse("use SQLite on tmp_path, the emulator, a real MCP server, a clock that is set", found)


def test_rowtide_reads_no_clock_and_no_environment() -> None:
    outside = {"datetime.now", "datetime.utcnow", "date.today", "time.time", "os.environ", "os.getenv"}
    allowed = {
        "rowtide/gates/gate_files.py": "os.environ",  # Great Expectations reads a variable when it is imported
        "rowtide/clock.py": "datetime.now",  # once, when a process begins
    }
    found = [
        f"{path}:{node.lineno} {ast.unparse(node)}"
        for path in python_files("rowtide")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in outside - {allowed.get(str(path))}
    ]
    refuse("now and the environment are arguments; nothing below tasks/ looks them up", found)


def test_a_model_is_a_line_of_config() -> None:
    # The emulator is another's API: it has models of its own. Its tests, and those that call it by hand, name them.
    found = [
        f"{path}:{number}"
        for path in tracked()
        if path.parts[0] not in ("emulator", "tests") and path != Path("rowtide/tiers/models.yaml")
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if MODEL_ID.search(line)
    ]
    refuse("model ids stand in rowtide/tiers/models.yaml", found)


def test_no_file_knows_this_machine() -> None:
    found = [
        f"{path}:{number} {line.strip()[:80]}"
        for path in tracked()
        if path != Path("tests/test_architecture.py")  # it must name what it looks for
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if MACHINE.search(line) or REGISTRY.search(line)
    ]
    refuse("no path of one machine and no address of a package index in a file", found)


def test_the_readme_map_is_the_tree() -> None:
    block = text_of(Path("README.md")).partition("## The house")[2].partition("```text\n")[2].partition("```")[0]
    mapped = {line.split()[0]: line for line in block.splitlines() if line and not line.startswith(" ")}
    present = {path.parts[0] + "/" * (len(path.parts) > 1) for path in tracked()}
    assert set(mapped) == present, f"README's map against the tree: {sorted(set(mapped) ^ present)}"
