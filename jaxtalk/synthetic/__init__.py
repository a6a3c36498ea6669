"""Synthetic speakers: procedural people with procedural voices, as clips with exact ground truth."""
