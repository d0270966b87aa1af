"""Labelling: which rows a person should label next, and how labels become golden rows."""
