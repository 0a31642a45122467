"""Pixels <-> latents: networks on host or device, in tiles. The way in is `pipeline.open_pipeline`."""
