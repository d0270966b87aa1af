"""The database that knows where each row is. Only here, and at a source's or a sink's own tables, is SQL."""
