"""What is in force: what the environment says, and what an operator has filled in where it leaves something open."""
