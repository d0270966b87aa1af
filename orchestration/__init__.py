"""What Prefect is told of a run: its name, tags, progress, artifacts and events; and how a stage becomes a task."""
