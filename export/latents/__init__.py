"""Measurements of a model on photos: its latent profile, its receptive field, and the gain of its UNet."""
