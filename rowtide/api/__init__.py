"""Rows to the API and their replies back: batches that are never paid for twice."""
