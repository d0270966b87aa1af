"""Routes rows: a first tier for each row, and a lane for all."""
