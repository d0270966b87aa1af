"""The keys of `job.yaml`, as pydantic models.

Every field is followed by its sentence; `docs/job_yaml.md` is generated from those sentences.
"""

import codecs
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from rowtide.job.evals_spec import EvalsSpec
from rowtide.job.on_call import validate_owner, validate_runbook
from rowtide.job.strict_spec import MOST, Real, Spec, Whole
from rowtide.lanes.lane_table import AskedLane

Effort = Literal["low", "medium", "high", "xhigh", "max"]
Remember = bool | float
PLACES = ("path", "url", "inbox")  # where a source may be; it is in one of them


class SourceSpec(Spec):
    path: Path | None = None
    """A CSV, JSONL or Parquet file, relative to the job's folder."""
    kind: Literal["csv", "jsonl", "parquet", "sql"] | None = None
    """How to read it; by default what the file's name ends in."""
    encoding: str | None = None
    """A text file's encoding, in Python's words (`cp1252`); by default what its first bytes prove, else UTF-8."""
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """What splits a CSV's cells; by default that of `,`, `;`, tab and `|` that splits every line alike."""
    quote: str = Field(default='"', max_length=1)
    """What encloses a CSV's cells; empty where quotes mean nothing."""
    escape: str | None = Field(default=None, min_length=1, max_length=1)
    """What stands before a quote inside a CSV's quoted cell, where it is not doubled: `\\`."""
    skip_spaces: bool = False
    """Whether spaces that follow a CSV's delimiter mean nothing."""
    url: str | None = None
    """Any SQLAlchemy URL, with `query`; the relative file of one is in the job's folder. `${NAME}` is taken from the
    environment."""
    query: str | None = None
    """The SELECT whose rows are read; give it an ORDER BY."""
    inbox: list[str] | None = None
    """Instead of a place: the columns that every row must have that comes by webhook (`rowtide serve`)."""

    @model_validator(mode="after")
    def _one_place(self) -> "SourceSpec":
        if sum(getattr(self, each) is not None for each in PLACES) != 1:
            raise ValueError("give one of `path`, `url` with `query`, or `inbox`")
        if self.url is not None and self.query is None:
            raise ValueError("`url` needs `query`")
        return self

    @property
    def place(self) -> str:
        """The key that says where the rows are."""
        return next(each for each in PLACES if getattr(self, each) is not None)

    @field_validator("delimiter", mode="before")
    @classmethod
    def _tab(cls, value: object) -> object:
        return "\t" if value in ("tab", "\\t") else value

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        try:
            assert value is None or "".encode(value) is not None
        except LookupError:
            raise ValueError("Python knows no such encoding") from None
        return "utf-8-sig" if value and codecs.lookup(value).name == "utf-8" else value


FolderKind = Literal["parquet", "csv", "jsonl"]
"""The sinks that are folders of parts."""


class SinkSpec(Spec):
    kind: Literal[FolderKind, "sql"] = "parquet"
    """What to write."""
    path: Path | None = None
    """A folder of parts (parquet, csv, jsonl), relative to ROWTIDE_HOME."""
    url: str | None = None
    """A SQLAlchemy URL of SQLite, PostgreSQL or DuckDB, with `table`; a relative file is in the job's folder. `${NAME}`
    is taken from the environment."""
    table: str | None = None
    """The table to upsert into, or `schema.table`; made from the answer model when absent."""
    partition_by: str | None = None
    """A field of the answer: Parquet parts go into a folder for each of its values (`field=value/`)."""
    lineage: bool = False
    """Whether each row says where it comes from: `_run`, `_tier`, `_turns`, `_cost_usd`, `_loaded_at`."""
    part_rows: Whole = Field(default=50_000, ge=1)
    """The most rows in a part: one file (or one a partition), or one transaction."""

    @model_validator(mode="after")
    def _one_place(self) -> "SinkSpec":
        if self.is_table and not (self.url and self.table):
            raise ValueError(f"a {self.kind} sink needs `url` and `table`")
        if not self.is_table and self.path is None:
            raise ValueError(f"a {self.kind} sink needs `path`")
        if self.kind != "parquet" and self.partition_by is not None:
            raise ValueError("only a parquet sink has partitions")
        return self

    @property
    def is_table(self) -> bool:
        """Whether it is a table of a database; else it is a folder of parts."""
        return self.kind not in get_args(FolderKind)


class ToolServerSpec(Spec):
    command: str | None = None
    """The program to start; `python` means the interpreter Rowtide runs on."""
    args: list[str] = []
    """Its arguments; it is started in the job's folder."""
    env: dict[str, str] = {}
    """Its environment besides HOME and PATH. `${NAME}` is taken from ours."""
    url: str | None = None
    """Instead of a program: a server that speaks streamable HTTP. `${NAME}` is taken from the environment."""
    headers: dict[str, str] = {}
    """HTTP headers for `url`. `${NAME}` is taken from the environment."""
    python: Path | None = None
    """Instead of a server: a Python file of the job, whose typed and documented functions are the tools."""
    stub: Path | None = None
    """Instead of a server: canned tools from a YAML file, until somebody writes the real ones."""
    capability: str | None = None
    """Instead of naming one: whatever server the registry lists for this capability."""
    placement: Literal["local", "connector"] = "local"
    """Who calls the tools: we do, or the API itself (public HTTPS servers only; the whole loop is one request)."""
    tools: list[str] | None = None
    """The tools a row may call; by default all the server lists. Fewer is cheaper: the prompt pays for each."""
    allow: list[str] = []
    """Tools that change something and may be called all the same. Any other that is not read-only is refused."""
    ask: list[str] = []
    """Tools that are called only after a person has seen the call and allowed it."""
    read_only: list[str] = []
    """Tools that change nothing although their server does not say so."""
    remember: Remember | dict[str, Remember] = False
    """Whether rows that ask alike hear one call: `true`, or so many seconds; or each tool's. Errors never count."""
    error_if: str | dict[str, str] | None = None
    """A regular expression, or one for each tool: what it is found in is an error, though the tool does not say so."""
    timeout_seconds: Real = Field(default=30, gt=0, le=86_400)
    """How long one call may take."""
    concurrency: Whole = Field(default=8, ge=1)
    """How many calls may be on the wire at once."""
    calls_per_second: Real | None = Field(default=None, gt=0)
    """The most calls to begin in a second; no limit by default."""

    @field_validator("remember", mode="before")
    @classmethod
    def _how_long(cls, value: object) -> object:
        for each in value.values() if isinstance(value, dict) else [value]:
            if not isinstance(each, bool) and not (isinstance(each, int | float) and 0 < each <= MOST):
                raise ValueError(f"true, false, or for how many seconds; or one of these for each tool; not {each!r}")
        return value

    @field_validator("error_if")
    @classmethod
    def _is_pattern(cls, value: str | dict[str, str] | None) -> str | dict[str, str] | None:
        for each in value.values() if isinstance(value, dict) else [value]:
            if each is not None and not _compiles(each):
                raise ValueError(f"{each!r} is no regular expression that can be looked for")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> "ToolServerSpec":
        if [self.command, self.url, self.python, self.stub, self.capability].count(None) != 4:
            raise ValueError("give one of `command`, `url`, `python`, `stub` and `capability`")
        if self.python is not None and (self.args or self.headers):
            raise ValueError("`args` and `headers` are for programs and URLs: functions of `python` get `env` alone")
        if self.placement == "connector" and not (self.url or self.capability):
            raise ValueError("`placement: connector` needs a `url`, or a `capability` whose server has one")
        if self.placement == "connector" and self.ask:
            raise ValueError("`ask` needs `placement: local`: what the API calls itself, nobody can be asked about")
        return self


def _compiles(pattern: str) -> bool:
    try:
        return not re.compile(pattern).search("")  # what is found in nothing is found in everything
    except (re.error, OverflowError, RecursionError):
        return False


class RuleSpec(Spec):
    """A rule of a built-in check, about one field of the answer."""

    field: str


class GroundingSpec(RuleSpec):
    field: str
    """The answer's field whose value must stand in tool output."""
    tool: str
    """`server.tool`, or `server.*`: whose output must hold it."""


class SelfCheckSpec(Spec):
    tier: str
    """Who takes the self-check: a name from the model catalogue."""
    rubric: Path = Path("rubric.md")
    """What it is told: Jinja2, strict; the row's columns, `answer` as JSON, and its fields as `claimed.NAME`."""


class ChecksSpec(Spec):
    corrections: Whole = Field(default=2, ge=0)
    """How often a row is told what was wrong with its answer, at one tier, before it goes up the ladder."""
    grounding: list[GroundingSpec] = []
    """Claims that must stand in the output of a tool the row called."""
    self_check: SelfCheckSpec | None = None
    """A self-check of every answer that passed the rest, in batches too; what fails it is corrected."""

    @property
    def rules(self) -> Mapping[str, Sequence[RuleSpec]]:
        """The built-in checks that are asked for: key → its rules."""
        lists = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: rules for name, rules in lists.items() if isinstance(rules, list) and rules}


class SkillsSpec(Spec):
    folders: list[Path] = [Path("skills")]
    """Where skills are: each a folder with a SKILL.md. A folder that does not exist holds none."""
    always: list[str] = []
    """Skills every row gets."""
    group_by: str | None = None
    """The column that puts rows into groups; a skill goes to the groups its description speaks of."""


class GatesSpec(Spec):
    rows: Path | None = None
    """Over the rows that came in, before a cent is spent; in Great Expectations' own words (type, kwargs, severity)."""
    answers: Path | None = None
    """Over the answers: a row that fails goes up the ladder; what fails over all of them holds the load."""
    load: Path | None = None
    """Over what is about to be written, the run's facts, and the last good run: what fails holds the load."""


class StartSpec(Spec):
    when: str
    """An SQL condition over the row's columns, in DuckDB's words; text stays text: `TRY_CAST(price AS DOUBLE) > 9`."""
    tier: str | None = None
    """The tier these rows start on; by default the lowest."""
    effort: Effort | None = None
    """How hard the model thinks about them; by default what the model does unasked."""
    turns: Whole | None = Field(default=None, ge=1)
    """Instead of `limits.turns`, for these rows."""


class DifficultySpec(Spec):
    columns: list[str] = []
    """The columns the estimate looks at; by default all."""
    lookup: str | None = None
    """The column a tool looks up: a value made of common words is the harder to find."""
    accuracy: Real = Field(default=0.95, gt=0, lt=1)
    """The share of golden rows that must come out right when `fit-router` chooses where rows start."""


class EscalationSpec(Spec):
    quote: bool = True
    """Whether the next tier reads what tools told the one before, and why it failed."""
    yield_floor: Real = Field(default=0.05, ge=0, le=1)
    """A tier that gets a smaller share of its rows accepted is skipped by those that escalate."""
    yield_after: Whole = Field(default=50, ge=1)
    """How many rows of a run a tier must have had before its yield counts."""


class LiveSpec(Spec):
    concurrency: Whole = Field(default=16, ge=1)
    """The most live calls at once; fewer when the API's rate limits say so."""
    tail_rows: Whole = Field(default=20, ge=0)
    """With `lane: auto`: the last so many rows, where they are under 2% of the run, do not wait for a batch."""
    earlier_rows: Whole = Field(default=20, ge=0)
    """How many earlier rows a row of the sequential lane sees, with their answers."""


class SloSpec(Spec):
    window_days: Real = Field(default=28, gt=0, le=36_500)
    """Over how many days, up to now, the objectives are measured: the runs that began in them."""
    coverage: Real | None = Field(default=None, gt=0, lt=1)
    """Of the rows that came in and are settled, the share that must have a verified answer in the sink."""
    accepted_share: Real | None = Field(default=None, gt=0, lt=1)
    """Of the rows that a model was asked about and that are settled, the share whose answer must be accepted."""
    cost_per_accepted_row: Real | None = Field(default=None, gt=0)
    """What an accepted row may cost, in US dollars: all that was spent, over the rows that were accepted."""
    oldest_waiting_seconds: Real | None = Field(default=None, gt=0)
    """How long a row may wait to be settled: in the inbox, or in a run that is not over."""

    @property
    def is_empty(self) -> bool:
        """Whether the job sets no objective."""
        return not self.model_dump(exclude={"window_days"}, exclude_none=True)


class LimitsSpec(Spec):
    turns: Whole = Field(default=8, ge=1)
    """Model replies a row may take at one tier."""
    tool_calls: Whole = Field(default=16, ge=0)
    """Tool calls a row may make at one tier."""
    repeats: Whole = Field(default=2, ge=1)
    """How often a row may make one and the same call at one tier; once more is a loop."""
    tokens: Whole | None = Field(default=None, ge=1)
    """Tokens a row may read and write in all; no limit by default."""
    row_usd: Real | None = Field(default=None, gt=0)
    """What one row may cost in all, in US dollars; no limit by default."""
    budget_usd: Real | None = Field(default=None, gt=0)
    """What a run may cost at worst, in US dollars; what would cross it is not sent. `--budget` says otherwise."""
    day_usd: Real | None = Field(default=None, gt=0)
    """What this job's runs may cost at worst in one day (UTC) together, in US dollars."""
    patience_seconds: Real = Field(default=300, ge=0)
    """How long a run of a deployment waits for its batches in a process; then it parks, and `resume_runs` wakes it."""
    bounces: Whole = Field(default=3, ge=0)
    """How often a row is sent again after the API errored, expired or canceled it."""
    min_loaded: Real | None = Field(default=None, gt=0)
    """The fewest rows that must be in the sink at a run's end: a share below 1, or a number; else it exits 5."""
    same_errors: Whole = Field(default=10, ge=0)
    """So many rows that meet the same unforeseen error, and none beside them is answered, stop the run; 0: never."""
    max_tokens: Whole = Field(default=4096, ge=1)
    """The longest reply, in tokens, thinking included."""
    tool_output_chars: Whole = Field(default=8000, ge=100)
    """The longest tool output a model reads; the rest is cut, and it is told so."""
    row_bytes: Whole = Field(default=1_000_000, ge=1)
    """The largest row, as canonical JSON; a larger one is quarantined unread."""
    batch_rows: Whole = Field(default=100_000, ge=1, le=100_000)
    """The most rows in one batch."""
    batch_bytes: Whole = Field(default=256_000_000, ge=1, le=256_000_000)
    """The most bytes in one batch."""
    enough_rows: Whole = Field(default=1000, ge=1)
    """Ready rows that are worth a batch while others are still at the API."""


Owner = Annotated[str, AfterValidator(validate_owner)]
Runbook = Annotated[str, AfterValidator(validate_runbook)]
Tiers = Annotated[list[str], Field(min_length=1)]


class JobSpec(Spec):
    """One folder, one job."""

    job: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_-]*$")
    """Its name; by default the folder's."""
    description: str = ""
    """One sentence for people."""
    owner: Owner | None = None
    """Who is called when a run of it needs somebody: a team, a person or an address."""
    runbook: Runbook | None = None
    """What to do then: a URL, or a file in the job's folder. A run's tags, events, report and alerts name both."""
    source: SourceSpec
    """Where the rows come from."""
    key: str | list[str]
    """The column, or columns, that name a row for ever."""
    prompt: Path = Path("prompt.md")
    """What the agent is told: Jinja2, strict. Above a line `---` for all rows (cached), below it for each. A column
    whose name is more than a word is written `row["Company Name"]`."""
    answer: str = "Answer"
    """The pydantic model in `answer.py`."""
    tiers: Tiers
    """The ladder, cheapest first: names from the model catalogue."""
    start: list[StartSpec] = []
    """Which rows start higher, think harder or may take longer: the first condition that holds decides."""
    difficulty: DifficultySpec = DifficultySpec()
    """What `rowtide fit-router` learns from; the rows no rule of `start` speaks of start where it says."""
    escalation: EscalationSpec = EscalationSpec()
    """What happens when a row goes up the ladder."""
    tools: dict[str, ToolServerSpec] = {}
    """MCP servers by the name this job gives them."""
    registry: str = "registry.yaml"
    """Where capabilities are looked up: a file, in the job's folder or one of the two above it; or a registry's URL."""
    skills: SkillsSpec = SkillsSpec()
    """SKILL.md folders that teach the model a tool or a task."""
    checks: ChecksSpec = ChecksSpec()
    """What an answer must pass by itself."""
    gates: GatesSpec = GatesSpec()
    """What rows, answers and the load must pass together."""
    lane: AskedLane = "auto"
    """How turns reach the model: in batches at half price, or live; `auto` decides and says why."""
    live: LiveSpec = LiveSpec()
    """How live calls are made."""
    after: str | None = None
    """The column that names the key of the row this one comes after: it then sees that one's answer."""
    finish_within_minutes: Real | None = Field(default=None, gt=0)
    """How soon a run should be done; rows that batches would make late go live. `--finish-within` says otherwise."""
    limits: LimitsSpec = LimitsSpec()
    """Where a row, a batch or a run must stop."""
    sink: SinkSpec
    """Where accepted rows go."""
    slo: SloSpec = SloSpec()
    """What is promised of the job, watched by `rowtide slo` and after every run."""
    evals: EvalsSpec = EvalsSpec()
    """How versions are compared on golden rows (`rowtide eval`); with a golden.jsonl, none of it is needed."""

    @property
    def key_columns(self) -> list[str]:
        return [self.key] if isinstance(self.key, str) else self.key
