"""The flows: when each stage runs."""
