"""Judges answers and runs by gates, and holds runs for approval."""
