"""A stand-in for the Claude API that speaks HTTP and answers by rule."""
