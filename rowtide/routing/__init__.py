"""Routing: the tier on which a row starts, by rules or by a fitted estimate."""
