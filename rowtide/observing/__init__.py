"""What operators see of a run: log events, labels, objectives; and the rules for recovery."""
