"""The Python models that the build copies into a repository, and what it shares with them."""
