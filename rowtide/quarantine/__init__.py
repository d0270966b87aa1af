"""Quarantined rows as a sheet: written for a person, and read back with that person's edits."""
