"""Rows of the live lanes, call by call."""
