"""The agent of one row: what it asks, and what its row does after each reply."""
