"""Served by Triton; a package, so that the wheel ships it."""
