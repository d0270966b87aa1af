"""The models, what they cost, and escalation from one to the next."""
