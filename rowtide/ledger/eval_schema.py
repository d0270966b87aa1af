"""The tables of evals: two versions of a job compared on golden rows. The others are in `schema.py`."""

from sqlalchemy import Column, Index, Integer, LargeBinary, Text

from rowtide.ledger.schema import Number, table

# Two versions of a job on the same golden rows. What was asked for it stands in runs of its own.
eval_ = table(
    "eval",
    Column("eval_no", Number, primary_key=True),
    Column("eval_id", Text, nullable=False, unique=True),
    Column("job", Text, nullable=False),
    Column("api", Text, nullable=False),
    Column("made_up", Integer, nullable=False, server_default="0"),
    Column("part", Text, nullable=False),  # dev, confirm or planted
    Column("question", Text, nullable=False),  # fingerprint of all that decides the verdict: asked twice, it is one
    Column("version", Text, nullable=False),  # of the candidate: the fingerprint that a gate asks for
    Column("may_gate", Integer, nullable=False),  # whether passing lets it run: what it is compared with may run itself
    Column("candidate", Text, nullable=False),  # JSON: the arm
    Column("incumbent", Text, nullable=False),
    Column("plan", Text, nullable=False),  # JSON: margins, levels, looks, what changed, how it is asked
    Column("use_no", Integer, nullable=False),  # the how manieth verdict on its set; 0: it takes none of the level
    Column("drift_no", Integer, nullable=False, server_default="0"),  # the how manieth drift check of it; 0: none
    Column("key_hashes", LargeBinary, nullable=False),  # of the set's golden keys, 8 bytes each, to know it again
    Column("budget_micro", Number),
    Column("who", Text, nullable=False),
    Column("flow_run_id", Text),  # the flow run of Prefect that began it; null: a terminal
    Column("started_at", Text, nullable=False),
    Column("finished_at", Text),
    Column("verdict", Text),  # null while it goes on
    Column("reasons", Text, nullable=False, server_default="[]"),  # JSON
    Column("price", Text),  # JSON: what it would take to decide
    Index("eval_by_question", "job", "question"),
    Index("eval_by_version", "job", "version"),
)

# What was found after so many rows: appended, one by one.
eval_look = table(
    "eval_look",
    Column("eval_no", Number, primary_key=True, autoincrement=False),
    Column("look", Integer, primary_key=True, autoincrement=False),
    Column("found", Text, nullable=False),  # JSON
    clustered=True,
)

# A golden row of an eval, in the order in which they are asked; with what both versions made of it.
eval_row = table(
    "eval_row",
    Column("eval_no", Number, primary_key=True, autoincrement=False),
    Column("place", Number, primary_key=True, autoincrement=False),
    Column("look", Integer, nullable=False),  # that counts it first; 0: none does, it must only come out right
    Column("row_key", Text, nullable=False),
    Column("row_id", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),  # canonical JSON
    Column("golden", LargeBinary, nullable=False),  # JSON: what is known of it
    Column("is_same", Integer, nullable=False),  # both versions send the same bytes
    Column("candidate_row", Number),  # the row of an earlier run that stands for asking again; null: it is asked
    Column("incumbent_row", Number),
    Column("found", LargeBinary),  # JSON: both answers with their scores; null: not yet
    clustered=True,
)

# What a read-only tool said, for every version that asks the same: two versions must not differ by their tools' moods.
recording = table(
    "recording",
    Column("job", Text, primary_key=True),
    Column("call_hash", Text, primary_key=True),  # of the server as it is started, the tool and its arguments
    Column("output", Text, nullable=False),
    Column("recorded_at", Text, nullable=False),
    clustered=True,
)

# Whether a person lets a version run that has no passing verdict. A form asks first; on the command line the person
# decides at once.
eval_override = table(
    "eval_override",
    Column("override_no", Number, primary_key=True),
    Column("job", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("refusal", Text, nullable=False),  # why it may not run, as a sentence
    Column("flow_run_id", Text),  # the flow run that asks; null: a terminal
    Column("asked_at", Text, nullable=False),
    Column("decision", Text),  # run or stop; null: a person is asked
    Column("who", Text),
    Column("why", Text),
    Column("decided_at", Text),
    Index("override_by_version", "job", "version"),
)

# A run, under one of its versions, that went ahead on a person's word.
override_use = table(
    "override_use",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("version_no", Integer, primary_key=True, autoincrement=False),
    Column("override_no", Number, nullable=False),
    clustered=True,
)
