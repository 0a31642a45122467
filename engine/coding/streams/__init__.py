"""Entropy-coded streams: symbols of a tile to bytes and back, by the compiled core or in NumPy."""
