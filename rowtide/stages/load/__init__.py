"""Accepted rows into the sink, exactly once."""
