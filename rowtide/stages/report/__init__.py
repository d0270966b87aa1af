"""Draws a run's report page and reads its results, from the ledger."""
