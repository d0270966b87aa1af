"""Ready rows into batches, within the budget, never paid for twice."""
