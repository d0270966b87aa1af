"""One small agent a row: what it is asked, what becomes of its reply."""
