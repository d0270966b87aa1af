"""Rows that wait for a person: taken out, mended, brought back."""
