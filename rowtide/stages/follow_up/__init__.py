"""Follows up each reply: with tool calls, a correction, the next tier, or an answer."""
