"""The tools a row may call: found, started, called, fenced."""
