"""What came of a run: in words, in figures, as a page."""
