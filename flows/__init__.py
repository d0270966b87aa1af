"""When: the order of events."""
