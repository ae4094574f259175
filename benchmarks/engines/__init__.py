"""agentkit beside other engines: the same weights, the same ids, one process each, interleaved rounds."""
