"""The rules by which two versions of a job are compared, and one of them refused. Values in, values out."""
