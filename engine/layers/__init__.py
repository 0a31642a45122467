"""Layers over the networks' image: a residual, by a transform of blocks, and an overlay."""
