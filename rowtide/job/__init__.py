"""A job: its folder, read and checked strictly."""
