"""Whole collections of videos: how HDTF, MEAD and any folder lie on disk, prepared by many processes."""
