"""Queries for what people and programs read of a run; nothing here writes."""
