"""The tools of Model Context Protocol servers. Needs the extra `mcp`; nothing here loads until it is used."""
