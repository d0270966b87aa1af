"""What is retried: one durable effect each."""
