"""What photos tell of a model: its latent profile, and where its UNet helps."""
