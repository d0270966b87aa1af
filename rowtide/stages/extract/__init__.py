"""Brings rows in, once."""
