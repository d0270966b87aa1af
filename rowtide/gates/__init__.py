"""Gates: Great Expectations over rows, answers and loads, and a person's approval of what they hold."""
