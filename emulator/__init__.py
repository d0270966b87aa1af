"""What if there were no API: a stand-in for Claude that speaks HTTP."""
