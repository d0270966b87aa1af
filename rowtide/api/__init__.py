"""The API's rules and its door: which outcomes it has, how batches are packed, and the client."""
