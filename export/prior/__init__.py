"""The priors of latent spaces: their contexts, their training, and their conversion to integers."""
