"""Loads accepted rows into the sink, exactly once."""
