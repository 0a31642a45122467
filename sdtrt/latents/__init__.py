"""Latents as users have them: arrays and tensors of other libraries, files, latent spaces by name."""
