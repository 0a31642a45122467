"""A pytest plugin that replaces GPU 0 by the emulated device: `-p emulated_gpu`, with this folder in PYTHONPATH."""

import emulated

emulated.install()
