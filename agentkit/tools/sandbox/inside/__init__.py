"""What runs inside the sandbox, by its own Python: the standard library alone, and nothing of agentkit."""
