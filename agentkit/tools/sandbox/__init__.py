"""Runs a model's code where it can do no harm. Knows no tool, no session of an agent and no policy."""
