"""Layers over the networks' picture: a residual, by a transform of blocks, and an overlay."""
