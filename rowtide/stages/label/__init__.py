"""Labels: which rows a person should look at next, and how what they say becomes golden rows."""
