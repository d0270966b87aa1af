"""What becomes of runs that no process works on: woken, started again, canceled, or left."""
