"""The tables that remember what people were told: objectives that are breached, and what happened to runs."""

from sqlalchemy import Column, Text

from rowtide.ledger.ledger_tables import table

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
told = table(
    "told",
    Column("subject", Text, primary_key=True),
    Column("occurrence", Text, primary_key=True),
    Column("told_at", Text, nullable=False),
    clustered=True,
)
