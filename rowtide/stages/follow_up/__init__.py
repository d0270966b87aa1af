"""What each reply asks for: tools, a correction, the next tier; or it is an answer."""
