"""Bytes <-> `File`: the container, its chunks, and the latent profiles that files name. The way in is `container`."""
