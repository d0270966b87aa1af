"""The Prefect side of a run: names, tags, progress, artifacts and events; and stages as tasks."""
