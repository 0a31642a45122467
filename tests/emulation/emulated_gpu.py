"""A plugin of pytest, `-p emulated_gpu` with this folder in PYTHONPATH: the emulated device takes a GPU's place."""

import emulated

emulated.install()
