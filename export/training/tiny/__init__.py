"""The built-in model: its network, a module for each stage of its training, and its bundle."""
