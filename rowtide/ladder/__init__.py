"""The models, what they cost, and escalating from one to the next."""
