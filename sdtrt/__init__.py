"""An image codec that stores photographs as a few kilobytes of autoencoder latents.

>>> import sdtrt
>>> data = sdtrt.encode("photo.jpg", quality=50)
>>> sdtrt.decode(data).save("photo.png")
"""

import importlib
import pathlib
import typing

# The folders engine, export and kernels lie within this one if installed, and beside it in a checkout.
if not (pathlib.Path(__file__).parent / "engine").is_dir():
    __path__.append(str(pathlib.Path(__file__).parents[1]))

from sdtrt._version import __version__

if typing.TYPE_CHECKING:
    from sdtrt.api import decode, decode_latents, encode, encode_latents, preview
    from sdtrt.codec import Codec
    from sdtrt.engine.format.limits import Limits
    from sdtrt.errors import (
        BundleError,
        DeviceError,
        FormatError,
        ImageWarning,
        LatentsWarning,
        LimitError,
        SdtrtError,
    )
    from sdtrt.file_info import Info, info, verify

__all__ = [
    "BundleError",
    "Codec",
    "DeviceError",
    "FormatError",
    "ImageWarning",
    "Info",
    "LatentsWarning",
    "LimitError",
    "Limits",
    "SdtrtError",
    "__version__",
    "decode",
    "decode_latents",
    "encode",
    "encode_latents",
    "info",
    "preview",
    "verify",
]

if not typing.TYPE_CHECKING:
    # Imports happen at first use. Until then an interrupt ends the program without a traceback.
    _MODULES = {
        "sdtrt.api": ("decode", "decode_latents", "encode", "encode_latents", "preview"),
        "sdtrt.codec": ("Codec",),
        "sdtrt.engine.format.limits": ("Limits",),
        "sdtrt.errors": (
            "BundleError",
            "DeviceError",
            "FormatError",
            "LatentsWarning",
            "LimitError",
            "ImageWarning",
            "SdtrtError",
        ),
        "sdtrt.file_info": ("Info", "info", "verify"),
    }
    _SUBMODULES = ("api", "codec", "engine", "errors", "file_info", "images", "kernels", "latents")

    def __getattr__(name):
        for module, names in _MODULES.items():
            if name in names:
                globals()[name] = getattr(importlib.import_module(module), name)
                return globals()[name]
        if name in _SUBMODULES:
            return importlib.import_module(f"sdtrt.{name}")
        raise AttributeError(f"module 'sdtrt' has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})
