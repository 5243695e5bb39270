"""Triton backends in Python; each is copied to ``<backend directory>/<name>/model.py``, where Triton finds it."""
