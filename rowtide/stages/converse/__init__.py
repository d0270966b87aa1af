"""Asks the rows of the live lanes, call by call."""
