"""The settings in force: from the environment, else from what an operator has filled in."""
