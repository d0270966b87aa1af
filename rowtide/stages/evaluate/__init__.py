"""Two versions of a job on the same golden rows, look by look."""
