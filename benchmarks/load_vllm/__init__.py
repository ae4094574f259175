"""Many sessions at once over vLLM servers and two workers: what is lost or done twice, and how fast it goes."""
