"""The table that says which of Prefect's flow runs work, or worked, on a run."""

from sqlalchemy import Column, Text

from rowtide.ledger.ledger_tables import Number, table

flow_run = table(
    "flow_run",
    Column("run_no", Number, primary_key=True, autoincrement=False),
    Column("since", Text, primary_key=True),
    Column("flow_run_id", Text, nullable=False),
    Column("restarted", Text),  # why it was started again without a person; null when it began by itself
    clustered=True,
)
