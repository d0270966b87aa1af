"""What an operator fills in."""
