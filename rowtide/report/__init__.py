"""The report of a run: text, figures, and a page of HTML."""
