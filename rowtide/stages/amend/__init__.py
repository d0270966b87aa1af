"""Amends a run whose job changed, and judges stored answers again."""
