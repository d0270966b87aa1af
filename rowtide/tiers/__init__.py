"""The models, their prices, and escalation from one to the next."""
