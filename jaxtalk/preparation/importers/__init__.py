"""Tracks that other programs made of the same footage, one module a format."""
