"""Polls batches until they have ended, files their results, and reconciles unconfirmed batches."""
