"""The server's own side of a run: its statistics and its metrics endpoint."""
