"""The priors of latent spaces: what they look at, how they are trained, and how they become integers."""
