"""The tools a row may call: servers found, trusted, started, called and bounded."""
