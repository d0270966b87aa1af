"""The stages of a run: a folder for each verb of the flow, and the modules they share."""
