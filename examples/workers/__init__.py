"""Two worker processes, one database and several model servers: `python -m examples.workers`."""
