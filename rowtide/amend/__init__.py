"""A job mended in the middle of a run, and stored answers judged again."""
