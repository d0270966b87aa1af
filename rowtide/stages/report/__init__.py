"""A run's page and its results, from the ledger."""
