"""Numbers in, findings out; no I/O."""
