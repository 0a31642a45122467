"""An image codec that stores photographs as a few kilobytes of autoencoder latents.

>>> import sdtrt
>>> data = sdtrt.encode("photo.jpg", quality=50)
>>> sdtrt.decode(data).save("photo.png")
"""

import pathlib

# In a checkout the other floors lie beside this folder, installed within it: either way they are found.
if not (pathlib.Path(__file__).parent / "engine").is_dir():
    __path__.append(str(pathlib.Path(__file__).parents[1]))

from sdtrt._version import __version__
from sdtrt.api import decode, encode, preview
from sdtrt.codec import Codec
from sdtrt.engine.format.limits import Limits
from sdtrt.errors import BundleError, DeviceError, FormatError, LimitError, PictureWarning, SdtrtError
from sdtrt.information import Info, info, verify

__all__ = [
    "BundleError",
    "Codec",
    "DeviceError",
    "FormatError",
    "Info",
    "LimitError",
    "Limits",
    "PictureWarning",
    "SdtrtError",
    "__version__",
    "decode",
    "encode",
    "info",
    "preview",
    "verify",
]
