"""Latents <-> `File`: quantization, priors, entropy coder, rate control; no model. The way in is `latents`."""
