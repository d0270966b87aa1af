"""The gates, and what they hold for a person."""
