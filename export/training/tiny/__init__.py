"""The built-in model `tiny`: its networks, one module for each stage of its training, and its bundle."""
