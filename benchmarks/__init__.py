"""Ratios measured side by side on this machine; each module prints JSON and a table."""
