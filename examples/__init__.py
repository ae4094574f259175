"""Runnable examples: `python -m examples.weather`, and so on. Each file begins with what it shows."""
