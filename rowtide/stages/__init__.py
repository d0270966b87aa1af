"""What each stage does to a run: a folder for each verb of the flow, and what they share."""
