"""How the shipped models, priors and denoisers were trained: one command a stage, over `export/training_loop.py`."""
