"""The models, what they cost, and climbing from one to the next."""
