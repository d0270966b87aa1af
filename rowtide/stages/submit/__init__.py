"""Submits ready rows in batches, within the budget, and never twice."""
