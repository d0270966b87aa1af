"""By what rules two versions of a job are compared, and when one of them is refused. Values in, values out."""
