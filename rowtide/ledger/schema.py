"""The tables of the ledger, in the order a row meets them.

A *run* goes once through a job's rows. `extract` admits each *row*: its number is its place in the source, so
admitting the same page twice changes nothing; its content is kept apart in *row_content*, so that moving a row
rewrites a hundred bytes and not its text. `submit` puts ready rows into a *batch*: the batch and its rows are
committed before the POST, with a random tag that stands in every custom_id, so a reply that never came can be
found again. What the model said is appended to *turn*, what tools said to *tool_call*, and every move that needs
a reason (bounce, correct, lengthen, escalate, hold, quarantine) to *note*. These three are the agent's whole state: its
conversation is read back from them. An *answer* that passed the row's checks waits for the gate. `load` writes
accepted rows to the sink in parts, one *load* each, and remembers in *loaded* what is there under which key.
`report` remembers in *unverified* which rows could not be verified: to ask them the same again would cost the same.

Nothing here is rewritten but a row's state, what a person mends in it (the old is kept with the *note*), a batch's
progress and the run's own dates. Money is integer micro-dollars. Times are UTC, ISO 8601: they sort as text anywhere.
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

# SQLite only gives a table its own integer key when the column's type is exactly INTEGER.
Number = BigInteger().with_variant(Integer(), "sqlite")
Seconds = Double().with_variant(REAL(), "sqlite")  # the one name a STRICT table knows

_IN_ORDER = text("after_no IS NOT NULL")  # only the sequential lane pays for that index
_WAITING, _TAKEN = text("run_id IS NULL"), text("run_id IS NOT NULL")


def table(name: str, *parts: SchemaItem, clustered: bool = False) -> Table:
    return Table(name, tables, *parts, sqlite_strict=True, sqlite_with_rowid=not clustered)


def state_check(of: str, *states: str) -> CheckConstraint:
    """Not `IN`: SQLite builds that list anew for every row it writes, which takes longer than all else it does then."""
    return CheckConstraint(" OR ".join(f"state = '{state}'" for state in states), name=f"{of}_state_is_known")


run = table(
    "run",
    Column("run_no", Number, primary_key=True),
    Column("run_id", Text, nullable=False, unique=True),
    Column("job", Text, nullable=False),
    Column("job_folder", Text, nullable=False),
    Column("owner", Text),  # who is called when it needs somebody, as the job said when the run last went on
    Column("runbook", Text),  # where it stands what to do then: a URL or a file's whole path
    Column("version_no", Integer, nullable=False, server_default="0"),  # the version it goes on under
    Column("tiers", Text, nullable=False),  # JSON: the ladder as it was
    Column("request", LargeBinary, nullable=False),  # the part all requests share: system, tools, schema
    Column("servers", Text, nullable=False, server_default="{}"),  # JSON: which server stands for which capability
    Column("api", Text, nullable=False, server_default=""),  # which API answers it; empty: not known, from before
    Column("made_up", Integer, nullable=False, server_default="0"),  # by an emulator: no model answers
    Column("source", Text, nullable=False),
    Column("source_path", Text),  # given by hand instead of the job's own
    Column("row_limit", Number),
    Column("lane", Text, nullable=False),  # as asked for; `auto` is decided when the rows are in
    Column("chosen_lane", Text),
    Column("lane_why", Text),
    Column("finish_by", Text),  # the deadline; null when there is none
    Column("budget_micro", Number),  # the wall; null when there is none
    Column("stopped", Text),  # why the pump ended with rows still to send; null while it goes on
    Column("stop_detail", Text),  # the same in words, where the API said them
    Column("round_mark", Text),  # how the rows stood when the pump last began a round, and for how many rounds
    Column("next_micro", Number),  # what the next request could cost, when the budget stopped the run
    Column("lease_holder", Text),  # the process at work on it: host:pid:started:token
    Column("lease_until", Text),
    Column("read_rows", Number, nullable=False, server_default="0"),  # how far extract has come
    Column("started_at", Text, nullable=False),
    Column("extracted_at", Text),
    Column("finished_at", Text),
)

# What a run's job was when it began, and each time the job as it was by then was taken into the run.
version = table(
    "version",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("version_no", Integer, primary_key=True, autoincrement=False, server_default="0"),
    Column("asking", Text, nullable=False),  # fingerprint of what decides how a row is asked
    Column("judging", Text, nullable=False),  # fingerprint of what decides how its answer is judged
    Column("parts", Text, nullable=False),  # JSON: what of each is which hash, to name what changed
    Column("base_prefix", Integer, nullable=False, server_default="0"),  # what its rows have that are taught no more
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
    Column("reason", Text),  # why it is quarantined, or why it was left unchanged
    Column("tier", Integer),  # tier of the run's ladder; null until routed
    Column("turn", Integer, nullable=False, server_default="0"),  # replies so far
    Column("conversation_from", Integer, nullable=False, server_default="0"),  # turns before the present conversation
    Column("tool_calls", Integer, nullable=False, server_default="0"),  # in this conversation
    Column("corrections", Integer, nullable=False, server_default="0"),  # in this conversation
    Column(
        "max_tokens_doublings", Integer, nullable=False, server_default="0"
    ),  # how often its replies may double, in this one
    Column("bounces", Integer, nullable=False, server_default="0"),
    Column("batch_no", Number),  # the batch it is in, or was in last
    Column("load_no", Number),
    Column("cost_micro", Number, nullable=False, server_default="0"),
    Column("tokens", Number, nullable=False, server_default="0"),  # read and written so far
    Column("in_self_check", Integer, nullable=False, server_default="0"),  # its next reply judges its answer
    Column("prefix_no", Integer, nullable=False, server_default="0"),  # what comes before its own message
    Column("effort", Text),  # as its rule says; null: the model's own
    Column("turn_limit", Integer),  # as its rule says; null: the job's
    Column("rule", Integer),  # which rule of `start` it met, from 1; 0: the estimate's; null: none
    Column("after_no", Number),  # the row it comes after
    Column("version_no", Integer, nullable=False, server_default="0"),  # how it is asked, or was at the last
    state_check("row", *RowState),
    Index("row_by_state", "run_no", "state", "row_no"),  # every stage finds its work here
    Index("row_by_key", "run_no", "row_key", unique=True),  # one row a key in a run; `show` finds it here
    Index("row_by_after", "after_no", sqlite_where=_IN_ORDER, postgresql_where=_IN_ORDER),  # who waits for whom
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
    Column("why", Text, nullable=False),  # JSON: what of the row spoke for and against, to be shown
)

# A model that the API does not give us: its alternatives take its place for the rest of the run, or until a line of
# config gives its name another id. One that is overloaded is watched first: until `why` says more than nothing.
unavailable_model = table(
    "unavailable_model",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("model", Text, primary_key=True),  # its id at the API
    Column("since", Text, nullable=False),
    Column("why", Text, nullable=False),
    clustered=True,
)

# How the stays of rows on each tier ended: counted as it happens, because escalating rows are decided by it.
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
    Column("version_no", Integer, nullable=False, server_default="0"),  # whose they are
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
    Column("candidates", Text, nullable=False, server_default="[]"),  # JSON: api_ids that may be it
    Column("not_ours", Text, nullable=False, server_default="[]"),  # JSON: api_ids that turned out to be others'
    Column("lane", Text, nullable=False, server_default="batch"),  # live, stream, sequential: calls of one process
    Column("reserved_micro", Number, nullable=False, server_default="0"),  # the most it can yet cost
    Column("unknown_micro", Number, nullable=False, server_default="0"),  # of it: what replies nobody can price cost
    Column("cost_micro", Number, nullable=False, server_default="0"),  # what its replies cost
    Column("fetches", Integer, nullable=False, server_default="0"),  # times its results were read to their end
    Column("rows", Number, nullable=False, server_default="0"),
    Column("bytes", Number, nullable=False, server_default="0"),
    Column("packed_at", Text, nullable=False),
    Column("newest_before", Text),  # the API's date of the newest batch it listed just before the POST
    Column("posted_at", Text),  # the moment before the POST: the intent
    Column("unconfirmed_at", Text),  # since when it is known that nobody will hear the POST's reply
    Column("opened_at", Text),
    Column("took_seconds", Seconds),  # by the API's own clock; of live calls, what one took
    Column("cancel_asked_at", Text),  # by us: its unanswered rows did not bounce
    Column("ended_at", Text),
    Column("filed_at", Text),
    Column("detail", Text),
    # packing → packed → posting → open → filed; void: the API certainly never took it; orphaned: nobody can say.
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
    Column("kind", Text, nullable=False, server_default="answer"),  # answer, or check: a self-check of one
    Column("model", Text),  # its name in the catalogue, where it was not the tier's own
    Column("version_no", Integer, nullable=False, server_default="0"),  # under which it was asked
    Column("asked_at", Text),  # when a live call was made; of a turn in a batch, the batch says it
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
    Column("remembered", Integer, nullable=False, server_default="0"),  # answered by an identical earlier call
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

# A call that changes something: written down before it is made, so that it is never made twice.
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
    Column("shown_hash", Text),  # of the call as a person was last shown it
    Column("decided_hash", Text),  # of the call that a person allowed or denied
    # asked → allowed | denied; allowed → sent → done; sent and never done: nobody knows, so it is asked again.
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
    Column("who", Text),  # the person whose move it was; null when it was Rowtide's own
    Column("was", LargeBinary),  # the content or the answer that a person's took the place of; JSON
    Column("sheet", Text),  # hash of the sheet in which a person said so
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

# ---------------------------------------------------------------- what gates said, compare with and hold

# What each expectation of a gate said of the run, at its last judging.
verdict = table(
    "verdict",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("gate", Text, primary_key=True),  # rows, answers, load
    Column("place", Integer, primary_key=True, autoincrement=False),  # in its suite, from 0
    Column("type", Text, nullable=False),
    Column("kwargs", Text, nullable=False),  # JSON
    Column("severity", Text, nullable=False),
    Column("passed", Integer),  # null: it could not be asked, and `said` tells why
    Column("judged", Number, nullable=False),  # rows it looked at
    Column("failed", Number, nullable=False),  # of those, the ones that failed
    Column("observed", Text),  # JSON; of one over the whole run
    Column("examples", Text, nullable=False, server_default="[]"),  # JSON: keys of rows that failed
    Column("message", Text, nullable=False, server_default=""),
    Column("judged_at", Text, nullable=False),
    clustered=True,
)

# How a column's values were spread over a run's answers, for later runs to be compared with.
profile = table(
    "profile",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),  # of the column
    Column("distribution", Text, nullable=False),  # JSON: a partition, as Great Expectations means it
    clustered=True,
)

# A gate that the run did not pass, put before a person.
gate_approval = table(
    "gate_approval",
    Column("approval_no", Number, primary_key=True),
    Column("run_no", Number, ForeignKey("run.run_no"), nullable=False),
    Column("gate", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("failures", Text, nullable=False),  # JSON: what failed, each in words
    Column("rows", Number, nullable=False),  # that wait for the decision
    Column("asked_at", Text, nullable=False),
    Column("decided_by", Text),
    Column("decided_at", Text),
    Column("why", Text),  # the person's reason
    Column("shown_hash", Text),  # of the failures and rows as a person was last shown them
    state_check("gate_approval", "asked", "approved", "rejected", "lapsed"),
    Index("gate_approval_by_run", "run_no", "state"),
)

# ---------------------------------------------------------------- work that waits, who does it, what people were told

# A message, once: what its sender calls it is remembered for ever, so that sending it again changes nothing.
message = table(
    "message",
    Column("message_no", Number, primary_key=True),
    Column("job", Text, nullable=False),  # the name of its folder
    Column("message_id", Text, nullable=False),
    Column("body_hash", Text, nullable=False),  # to tell a repetition from another message under the same id
    Column("receipt", Text, nullable=False),  # of the commit that brought it: who inserted it knows it again
    Column("rows", Integer, nullable=False),
    Column("received_at", Text, nullable=False),
    UniqueConstraint("message_id", "job", name="message_is_received_once"),
)

# A row of a message. It waits until a run takes it; `run_id` is set once and never changed.
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

# A message that Prefect is still to be told of: it comes with the message, and goes before Prefect hears of it.
unannounced_message = table(
    "unannounced_message", Column("message_no", Number, primary_key=True, autoincrement=False), clustered=True
)

# A run that was asked for over HTTP, once: what its sender calls the question is remembered for ever.
run_request = table(
    "run_request",
    Column("job", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("body_hash", Text, nullable=False),  # to tell a repetition from another question under the same id
    Column("requested_at", Text, nullable=False),
    clustered=True,
)

# Which of Prefect's flow runs work, or worked, on a run.
flow_run = table(
    "flow_run",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("since", Text, primary_key=True),
    Column("flow_run_id", Text, nullable=False),
    Column("restarted", Text),  # why it was started again without a person; null when it began by itself
    clustered=True,
)

# A process at work on a run, for as long as it renews this; and what it has in hand.
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
    Column("holder", Text),  # the worker that has it in hand; null: whoever comes first
    clustered=True,
)

# An objective of a job that was found breached: from when it was first seen until it was first seen met again.
breach = table(
    "breach",
    Column("job", Text, primary_key=True),
    Column("objective", Text, primary_key=True),
    Column("since", Text, primary_key=True),
    Column("ended_at", Text),  # null while it lasts
    clustered=True,
)

# What Prefect was told of, so that it is told once: a run and what held it, a job and a breach.
emitted_event = table(
    "emitted_event",
    Column("subject", Text, primary_key=True),
    Column("occurrence", Text, primary_key=True),
    Column("emitted_at", Text, nullable=False),
    clustered=True,
)
