"""Rows in, once."""
