"""What `rowtide doctor` looks at: everything that a run needs and did not choose."""
