"""Proof by breaking: kill a run at every effect it has on the world, and see that it comes to the same end."""
