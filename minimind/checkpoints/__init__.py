"""Checkpoint folders, and weights of other programs."""
