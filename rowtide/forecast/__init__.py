"""The rules of a forecast: what a run will likely take and cost."""
