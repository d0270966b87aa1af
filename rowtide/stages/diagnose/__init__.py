"""Checks everything that a run needs from outside its job, for `rowtide doctor`."""
