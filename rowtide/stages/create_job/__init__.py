"""Makes a job out of a table: looks at its columns, and writes the job's folder whole or not at all."""
