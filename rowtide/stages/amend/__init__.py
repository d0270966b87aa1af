"""A run's job changed in the middle of the run, and stored answers judged again."""
