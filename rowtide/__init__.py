"""By what rules: rows, agents, money and the ledger. Nothing here knows Prefect."""
