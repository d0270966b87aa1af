"""What rows and answers must pass together."""
