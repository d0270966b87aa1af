"""Rowtide without Prefect: stages, the ledger, and the rules for rows, agents and money."""
