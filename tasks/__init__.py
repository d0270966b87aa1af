"""The stages of a run as tasks: each has one durable effect, and is retried."""
