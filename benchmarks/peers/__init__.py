"""The same rows by other packages: a script and a constraints file for each, run in a venv of its own."""
