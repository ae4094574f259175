"""The loop: checks, generates, checks, executes, checks, appends. The top room; everything else serves it."""
