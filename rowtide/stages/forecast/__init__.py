"""Forecasts what a run would cost and how long it would take."""
