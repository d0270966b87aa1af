"""What to do with a row: a job's folder, read strictly."""
