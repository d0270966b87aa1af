"""Where a row starts on the ladder: by rules, or by an estimate that was fitted."""
