"""How the shipped models, priors and denoisers were trained: a command for each stage, over `export.training_loop`."""
