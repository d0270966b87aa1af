"""The client of the Claude API, its outcomes, and how batches are packed."""
