"""The tables that gates fill: what they said of a run, what later runs are compared with, what they hold."""

from sqlalchemy import Column, ForeignKey, Index, Integer, Text

from rowtide.ledger.schema import Number, known_states, table

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
    Column("said", Text, nullable=False, server_default=""),
    Column("judged_at", Text, nullable=False),
    clustered=True,
)

# How a column's values were spread over a run's answers, for later runs to be compared with.
profile = table(
    "profile",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),  # of the column
    Column("spread", Text, nullable=False),  # JSON: a partition, as Great Expectations means it
    clustered=True,
)

# A gate that the run did not pass, put before a person.
hold = table(
    "hold",
    Column("hold_no", Number, primary_key=True),
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
    known_states("hold", "asked", "approved", "rejected", "lapsed"),
    Index("hold_by_run", "run_no", "state"),
)
