"""The version of the package, once. The file format has its own, in `sdtrt.engine.container`."""

__version__ = "0.1.0"
