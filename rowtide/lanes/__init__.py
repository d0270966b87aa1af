"""How a turn reaches the model: by which lane, and the live ones."""
