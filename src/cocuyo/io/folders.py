"""Recordings that are folders: one image per frame, or the parts of a movie."""
