"""The tables of the ledger, in the order a row meets them.

A *run* goes once through a job's rows. `extract` admits each *row*: its number is its place in the source, so admitting
the same page twice changes nothing; its content is kept apart in *row_content*, so that moving a row rewrites a hundred
bytes and not its text. `submit` puts ready rows into a *batch*: the batch and its rows are committed before the POST,
with a random tag in every custom_id, so a batch whose reply was lost can be found again. Model replies are appended to
*turn*, tool results to *tool_call*, and every move that needs a reason (bounce, correct, escalate, hold, quarantine) to
*note*. These three are the agent's whole state: its conversation is read back from them. An *answer* that passed the
row's checks waits for the gate. `load` writes accepted rows to the sink in parts, one *load* each, and records in
*loaded* what is there under which key. `report` records in *unverified* which rows could not be verified: asking them
the same again would cost the same.

Only a row's state, content that a person edits (the old is kept with the *note*), a batch's progress and the run's own
dates are ever rewritten. Money is integer micro-dollars. Times are UTC, ISO 8601: they sort as text.
"""

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.schema import SchemaItem

from rowtide.agent.states import RowState

tables = MetaData()

# SQLite gives a table an integer key of its own only when the column's type is exactly INTEGER.
Number = BigInteger().with_variant(Integer(), "sqlite")
Seconds = Double().with_variant(REAL(), "sqlite")  # the one name that a STRICT table accepts

_IN_ORDER = text("after_no IS NOT NULL")  # only the sequential lane needs that index
_WAITING, _TAKEN = text("run_id IS NULL"), text("run_id IS NOT NULL")


def table(name: str, *parts: SchemaItem, clustered: bool = False) -> Table:
    """Define a table of the ledger with these columns and constraints; `clustered` tables are stored in the order of
    their key.
    """
    return Table(name, tables, *parts, sqlite_strict=True, sqlite_with_rowid=not clustered)


def state_check(of: str, *states: str) -> CheckConstraint:
    """Return a CHECK constraint on `state`. It avoids `IN`: SQLite rebuilds that list for every row it writes, which is
    its largest cost there.
    """
    return CheckConstraint(" OR ".join(f"state = '{state}'" for state in states), name=f"{of}_state_is_known")


run = table(
    "run",
    Column("run_no", Number, primary_key=True),
    Column("run_id", Text, nullable=False, unique=True),
    Column("job", Text, nullable=False),  # of an eval's arm: a name of its own, so that no load and no figure has it
    Column("eval_id", Text),  # the eval whose arm it is; null: a run whose rows are to be loaded
    Column("job_folder", Text, nullable=False),
    Column("owner", Text),  # whom to call, as the job said when the run last went on
    Column("runbook", Text),  # what to do then: a URL or a file's absolute path
    Column("version_no", Integer, nullable=False, server_default="0"),  # the version it goes on under
    Column("tiers", Text, nullable=False),  # JSON: the ladder as it was
    Column("models", Text, nullable=False, server_default="[]"),  # JSON: the models' ids at the API as it began
    Column("request", LargeBinary, nullable=False),  # the part all requests share: system, tools, schema
    Column("servers", Text, nullable=False, server_default="{}"),  # JSON: which server stands for which capability
    Column("api", Text, nullable=False, server_default=""),  # which API answers it; empty: unknown
    Column("made_up", Integer, nullable=False, server_default="0"),  # answered by an emulator, not by a model
    Column("source", Text, nullable=False),
    Column("source_path", Text),  # given by hand instead of the job's own
    Column("row_limit", Number),
    Column("lane", Text, nullable=False),  # as asked for; `auto` is decided when the rows are in
    Column("chosen_lane", Text),
    Column("lane_why", Text),
    Column("finish_by", Text),  # the deadline; null when there is none
    Column("budget_micro", Number),  # the budget limit; null when there is none
    Column("stopped", Text),  # why the pump ended with rows still to send; null while it goes on
    Column("stop_detail", Text),  # the same as a sentence, where the API gave one
    Column("round_mark", Text),  # how the rows stood when the last round began, and for how many rounds
    Column("next_micro", Number),  # what the next request could cost, when the budget stopped the run
    Column("lease_holder", Text),  # the process that works on it: host:pid:started:token
    Column("lease_until", Text),
    Column("read_rows", Number, nullable=False, server_default="0"),  # rows that extract has read
    Column("started_at", Text, nullable=False),
    Column("extracted_at", Text),
    Column("finished_at", Text),
)

# A run's job as it was when the run began, and at each amendment.
version = table(
    "version",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("version_no", Integer, primary_key=True, autoincrement=False, server_default="0"),
    Column("asking", Text, nullable=False),  # fingerprint of what decides how a row is asked
    Column("judging", Text, nullable=False),  # fingerprint of what decides how its answer is judged
    Column("parts", Text, nullable=False),  # JSON: hashes of the parts, to name what changed
    Column("base_prefix", Integer, nullable=False, server_default="0"),  # prefix of rows without own skills
    Column("taken_at", Text, nullable=False),
    Column("who", Text),  # null: the run's beginning
    Column("why", Text, nullable=False, server_default=""),
    clustered=True,
)

row = table(
    "row",
    Column("row_no", Number, primary_key=True, autoincrement=False),
    Column("run_no", Number, ForeignKey("run.run_no"), nullable=False),
    Column("row_key", Text, nullable=False),
    Column("row_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),  # why it is quarantined or unchanged
    Column("tier", Integer),  # tier of the run's ladder; null until routed
    Column("turn", Integer, nullable=False, server_default="0"),  # replies so far
    Column("conversation_from", Integer, nullable=False, server_default="0"),  # turns before the present conversation
    Column("tool_calls", Integer, nullable=False, server_default="0"),  # in this conversation
    Column("corrections", Integer, nullable=False, server_default="0"),  # in this conversation
    Column(
        "max_tokens_doublings", Integer, nullable=False, server_default="0"
    ),  # how often max_tokens was doubled here
    Column("bounces", Integer, nullable=False, server_default="0"),
    Column("batch_no", Number),  # the batch it is in, or was in last
    Column("load_no", Number),
    Column("cost_micro", Number, nullable=False, server_default="0"),
    Column("tokens", Number, nullable=False, server_default="0"),  # read and written so far
    Column("in_self_check", Integer, nullable=False, server_default="0"),  # its next reply judges its answer
    Column("prefix_no", Integer, nullable=False, server_default="0"),  # the prefix before its own message
    Column("effort", Text),  # from its rule; null: the model's own
    Column("turn_limit", Integer),  # from its rule; null: the job's
    Column("rule", Integer),  # the rule of `start` it met, from 1; 0: the estimate; null: none
    Column("after_no", Number),  # the row it comes after
    Column("version_no", Integer, nullable=False, server_default="0"),  # the version it is, or was last, asked under
    state_check("row", *RowState),
    Index("row_by_state", "run_no", "state", "row_no"),  # every stage finds its work here
    Index("row_by_key", "run_no", "row_key", unique=True),  # one row a key in a run; `show` finds it here
    Index("row_by_after", "after_no", sqlite_where=_IN_ORDER, postgresql_where=_IN_ORDER),  # rows that come after a row
)

row_content = table(
    "row_content",
    Column("row_no", Number, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),  # canonical JSON
)

estimate = table(
    "estimate",
    Column("row_no", Number, primary_key=True, autoincrement=False),
    Column("chances", Text, nullable=False),  # JSON: tier → the chance that its answer is accepted
    Column("why", Text, nullable=False),  # JSON: what in the row raised or lowered them
)

# A model that the API does not give us: its fallback answers for the rest of the run, or until the configuration gives
# its name another id. An overloaded model is only watched while `why` is empty.
unavailable_model = table(
    "unavailable_model",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("model", Text, primary_key=True),  # its id at the API
    Column("since", Text, nullable=False),
    Column("why", Text, nullable=False),
    clustered=True,
)

# How tier visits ended: counted as they end, because escalation decides by these counts.
visit = table(
    "tier_visit",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("tier", Integer, primary_key=True, autoincrement=False),
    *(
        Column(n, Number, nullable=False, server_default="0")
        for n in ("accepted", "escalated", "quarantined", "skipped")
    ),
    clustered=True,
)

prefix = table(
    "prefix",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("prefix_no", Integer, primary_key=True, autoincrement=False),
    Column("skills", Text, nullable=False),  # JSON: the names of the skills in it
    Column("content", LargeBinary, nullable=False),  # system, tools and schema, as the inside of a JSON object
    Column("version_no", Integer, nullable=False, server_default="0"),  # whose prefix it is
    clustered=True,
)

batch = table(
    "batch",
    Column("batch_no", Number, primary_key=True),
    Column("run_no", Number, ForeignKey("run.run_no"), nullable=False),
    Column("tag", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("api_id", Text, unique=True),
    Column("adopted", Integer, nullable=False, server_default="0"),  # found by listing, proven by its tag
    Column("candidates", Text, nullable=False, server_default="[]"),  # JSON: api_ids that may be this batch
    Column("not_ours", Text, nullable=False, server_default="[]"),  # JSON: api_ids proved to belong to others
    Column("lane", Text, nullable=False, server_default="batch"),  # live, stream, sequential: calls of one process
    Column("reserved_micro", Number, nullable=False, server_default="0"),  # its worst-case cost, yet to come
    Column("unknown_micro", Number, nullable=False, server_default="0"),  # of it, for replies nobody can price
    Column("cost_micro", Number, nullable=False, server_default="0"),  # the cost of its replies
    Column("fetches", Integer, nullable=False, server_default="0"),  # times its results were read whole
    Column("rows", Number, nullable=False, server_default="0"),
    Column("bytes", Number, nullable=False, server_default="0"),
    Column("packed_at", Text, nullable=False),
    Column("newest_before", Text),  # the API's date of the newest batch listed just before the POST
    Column("posted_at", Text),  # just before the POST: the intent
    Column("unconfirmed_at", Text),  # when it became known that the POST's reply is lost
    Column("opened_at", Text),
    Column("took_seconds", Seconds),  # by the API's clock; of live calls, the median of one
    Column("cancel_asked_at", Text),  # by us: its unanswered rows did not bounce
    Column("ended_at", Text),
    Column("filed_at", Text),
    Column("detail", Text),
    # packing → packed → posting → open → filed; void: the API never took it; orphaned: a person must say.
    state_check("batch", "packing", "packed", "posting", "open", "filed", "void", "orphaned"),
    Index("batch_by_state", "run_no", "state"),
)

turn = table(
    "turn",
    Column("row_no", Number, primary_key=True, autoincrement=False),
    Column("turn", Integer, primary_key=True, autoincrement=False),
    Column("batch_no", Number, nullable=False),
    Column("tier", Integer, nullable=False),
    Column("stop_reason", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),  # the assistant's content blocks, verbatim
    *(Column(f"{kind}_tokens", Number, nullable=False) for kind in ("input", "cache_write", "cache_read", "output")),
    Column("cost_micro", Number, nullable=False),
    Column("baseline_micro", Number, nullable=False),  # the same tokens, live, on the ladder's top tier
    Column("kind", Text, nullable=False, server_default="answer"),  # answer, or check: a self-check
    Column("model", Text),  # its name in the catalogue, if not the tier's own
    Column("version_no", Integer, nullable=False, server_default="0"),  # under which it was asked
    Column("asked_at", Text),  # when a live call was made; null for a turn in a batch
    clustered=True,
)

tool_call = table(
    "tool_call",
    Column("row_no", Number, primary_key=True, autoincrement=False),
    Column("turn", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("call_id", Text, nullable=False),
    Column("tool", Text, nullable=False),
    Column("arguments", LargeBinary, nullable=False),
    Column("output", Text, nullable=False),
    Column("is_error", Integer, nullable=False),
    Column("milliseconds", Integer, nullable=False),
    Column("remembered", Integer, nullable=False, server_default="0"),  # taken from an identical earlier call
    clustered=True,
)

memo = table(
    "memo",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("call_hash", Text, primary_key=True),  # of the tool and its arguments, as canonical JSON
    Column("output", Text, nullable=False),
    Column("asked_at", Text, nullable=False, server_default=""),
    clustered=True,
)

# A call that changes something: recorded before it is made, so that it is never made twice.
call_approval = table(
    "call_approval",
    Column("row_no", Number, primary_key=True, autoincrement=False),
    Column("turn", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("tool", Text, nullable=False),
    Column("arguments", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("asked_at", Text, nullable=False),
    Column("decided_by", Text),
    Column("decided_at", Text),
    Column("why", Text),
    Column("shown_hash", Text),  # hash of the call as last shown to a person
    Column("decided_hash", Text),  # hash of the call as a person decided on it
    # asked → allowed | denied; allowed → sent → done; sent but never done: unknown, so a person is asked again.
    state_check("call_approval", "asked", "allowed", "denied", "sent", "done"),
    clustered=True,
)

note = table(
    "note",
    Column("note_no", Number, primary_key=True),
    Column("row_no", Number, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("move", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("noted_at", Text, nullable=False),
    Column("who", Text),  # the person who made the move; null: Rowtide
    Column("was", LargeBinary),  # the content or answer that a person's replaced; JSON
    Column("sheet", Text),  # hash of the sheet that the move came in
    Index("note_by_row", "row_no", "turn"),
)

answer = table(
    "answer",
    Column("row_no", Number, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
    Column("version_no", Integer, nullable=False, server_default="0"),  # under which it was judged
)

load = table(
    "load",
    Column("load_no", Number, primary_key=True),
    Column("run_no", Number, ForeignKey("run.run_no"), nullable=False),
    Column("part", Text, nullable=False, unique=True),
    Column("sink", Text, nullable=False),
    Column("first_row", Number, nullable=False, server_default="0"),  # its rows are between these two
    Column("last_row", Number, nullable=False, server_default="0"),
    Column("rows", Number, nullable=False, server_default="0"),  # how many, fixed when it began
    Column("begun_at", Text, nullable=False),
    Column("done_at", Text),
)

loaded = table(
    "loaded",
    Column("job", Text, primary_key=True),
    Column("row_key", Text, primary_key=True),
    Column("sink", Text, primary_key=True),
    Column("row_id", Text, nullable=False),
    Column("asking", Text, nullable=False),  # the version that asked it
    Column("judging", Text, nullable=False, server_default=""),  # the version that judged it last
    Column("part", Text, nullable=False),
    Column("row_no", Number, nullable=False),
    Column("api", Text, nullable=False, server_default=""),  # which API answered it
    clustered=True,
)

unverified = table(
    "unverified",
    Column("job", Text, primary_key=True),
    Column("row_key", Text, primary_key=True),
    Column("row_id", Text, nullable=False),
    Column("asking", Text, nullable=False),  # the version that asked it
    Column("judging", Text, nullable=False, server_default=""),  # the version that judged it last
    Column("row_no", Number, nullable=False),
    Column("api", Text, nullable=False, server_default=""),
    clustered=True,
)

migration = table("migration", Column("name", Text, primary_key=True))

# ---------------------------------------------------------------- gates: verdicts, profiles, approvals

# The verdict of each expectation of a gate on the run, at its last judging.
verdict = table(
    "verdict",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("gate", Text, primary_key=True),  # rows, answers, load
    Column("place", Integer, primary_key=True, autoincrement=False),  # in its suite, from 0
    Column("type", Text, nullable=False),
    Column("kwargs", Text, nullable=False),  # JSON
    Column("severity", Text, nullable=False),
    Column("passed", Integer),  # null: it could not be judged; `message` says why
    Column("judged", Number, nullable=False),  # rows it judged
    Column("failed", Number, nullable=False),  # rows that failed it
    Column("observed", Text),  # JSON; of an expectation over the whole run
    Column("examples", Text, nullable=False, server_default="[]"),  # JSON: keys of rows that failed
    Column("message", Text, nullable=False, server_default=""),
    Column("judged_at", Text, nullable=False),
    clustered=True,
)

# The distribution of a column's values in a run's answers, for comparison by later runs.
profile = table(
    "profile",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),  # of the column
    Column("distribution", Text, nullable=False),  # JSON: a partition in Great Expectations' format
    clustered=True,
)

# A gate that the run did not pass, shown to a person.
gate_approval = table(
    "gate_approval",
    Column("approval_no", Number, primary_key=True),
    Column("run_no", Number, ForeignKey("run.run_no"), nullable=False),
    Column("gate", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("failures", Text, nullable=False),  # JSON: what failed, each as a sentence
    Column("rows", Number, nullable=False),  # rows that wait for the decision
    Column("asked_at", Text, nullable=False),
    Column("decided_by", Text),
    Column("decided_at", Text),
    Column("why", Text),  # the person's reason
    Column("shown_hash", Text),  # hash of the failures and rows as last shown to a person
    state_check("gate_approval", "asked", "approved", "rejected", "lapsed"),
    Index("gate_approval_by_run", "run_no", "state"),
)

# ---------------------------------------------------------------- inbox, workers, events

# A message, received once: its sender's id for it is kept for ever, so that sending it again changes nothing.
message = table(
    "message",
    Column("message_no", Number, primary_key=True),
    Column("job", Text, nullable=False),  # the name of its folder
    Column("message_id", Text, nullable=False),
    Column("body_hash", Text, nullable=False),  # to tell a repetition from another message under the same id
    Column("receipt", Text, nullable=False),  # token of the commit that inserted it
    Column("rows", Integer, nullable=False),
    Column("received_at", Text, nullable=False),
    UniqueConstraint("message_id", "job", name="message_is_received_once"),
)

# A row of a message. It waits until a run claims it; `run_id` is set once and never changed.
message_row = table(
    "message_row",
    Column("inbox_no", Number, primary_key=True),  # the order of arrival
    Column("message_no", Number, ForeignKey("message.message_no"), nullable=False),
    Column("job", Text, nullable=False),
    Column("row_key", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),  # canonical JSON
    Column("run_id", Text),
    Column("superseded_by", Number),  # the later row of the same key that the same run took
    Index("message_row_by_message", "message_no"),
    Index("message_row_waiting", "job", "inbox_no", sqlite_where=_WAITING, postgresql_where=_WAITING),
    Index("message_row_taken", "run_id", "row_key", "inbox_no", sqlite_where=_TAKEN, postgresql_where=_TAKEN),
)

# A message that Prefect must still hear of: inserted with the message, deleted just before Prefect is told.
unannounced_message = table(
    "unannounced_message", Column("message_no", Number, primary_key=True, autoincrement=False), clustered=True
)

# A run requested over HTTP, once: its sender's id for the request is kept for ever.
run_request = table(
    "run_request",
    Column("job", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("body_hash", Text, nullable=False),  # to tell a repetition from another request under the same id
    Column("requested_at", Text, nullable=False),
    clustered=True,
)

# Prefect's flow runs that work, or worked, on a run.
flow_run = table(
    "flow_run",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("since", Text, primary_key=True),
    Column("flow_run_id", Text, nullable=False),
    Column("restarted", Text),  # why it was restarted without a person; null: it was not
    clustered=True,
)

# A process at work on a run, as long as it renews this; then what it has claimed.
worker = table(
    "worker",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("holder", Text, primary_key=True),  # machine:pid:started:token
    Column("until", Text, nullable=False),
    clustered=True,
)

claim = table(
    "claim",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("what", Text, primary_key=True),
    Column("number", Number, primary_key=True, autoincrement=False),  # a share's place, a batch's number; 0: the poll
    Column("holder", Text),  # the worker that claimed it; null: free
    clustered=True,
)

# A breached objective of a job: from when it was first seen breached until it was first seen met.
breach = table(
    "breach",
    Column("job", Text, primary_key=True),
    Column("objective", Text, primary_key=True),
    Column("since", Text, primary_key=True),
    Column("ended_at", Text),  # null while it lasts
    clustered=True,
)

# Events emitted to Prefect, so that each is emitted once: a run and what held it, a job and a breach.
emitted_event = table(
    "emitted_event",
    Column("subject", Text, primary_key=True),
    Column("occurrence", Text, primary_key=True),
    Column("emitted_at", Text, nullable=False),
    clustered=True,
)
