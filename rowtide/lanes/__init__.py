"""By which lane a turn reaches the model, and how many live calls may be made at once."""
