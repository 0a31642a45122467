"""The version of the package, once. The file format has its own, in `sdtrt.engine.format.container`."""

__version__ = "0.1.0"
