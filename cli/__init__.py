"""How a person asks: the `rowtide` command."""
