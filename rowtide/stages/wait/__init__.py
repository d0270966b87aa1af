"""Batches looked after until they have ended, and their results filed."""
