"""The lanes by which turns reach the model, how one is chosen, and the rate limiter of live calls."""
