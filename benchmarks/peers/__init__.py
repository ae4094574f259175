"""One process for each engine, run by its own environment's Python: nothing here imports agentkit but its own peer."""
