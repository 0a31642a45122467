"""sdtrt: photographs as a few kilobytes of autoencoder latents.

>>> import sdtrt
>>> data = sdtrt.encode("photo.jpg", quality=50)
>>> sdtrt.decode(data).save("photo.png")
"""

import pathlib

# In a checkout the other floors lie beside this folder, installed within it: either way they are found.
if not (pathlib.Path(__file__).parent / "engine").is_dir():
    __path__.append(str(pathlib.Path(__file__).parents[1]))

from sdtrt._version import __version__
from sdtrt.api import decode, decode_latents, encode, encode_latents, preview
from sdtrt.codec import Codec
from sdtrt.engine.format.limits import Limits
from sdtrt.errors import BundleError, DeviceError, FormatError, LatentsWarning, LimitError, PictureWarning, SdtrtError
from sdtrt.information import Info, info, verify

__all__ = [
    "BundleError",
    "Codec",
    "DeviceError",
    "FormatError",
    "Info",
    "LatentsWarning",
    "LimitError",
    "Limits",
    "PictureWarning",
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
