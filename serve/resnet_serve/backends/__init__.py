"""Triton backends in Python; each folder is one that Triton loads by its name."""
