"""Everything that sdtrt raises on purpose, split by who can act.

SdtrtError
├── FormatError   the file: not an .sdt file, damaged, or of a later version
├── LimitError    policy: larger than the limits in force allow
├── BundleError   the models: a bundle or engine that is missing, damaged or does not fit
└── DeviceError   the machine: a missing library, driver or device

A wrong argument is a plain `ValueError` or `TypeError`; what is lost of an image on its way in is an `ImageWarning`;
latents that do not look like those of their latent space give a `LatentsWarning`.
"""


class SdtrtError(Exception):
    """Base of all errors of this package."""


class FormatError(SdtrtError):
    """The bytes are not a whole, undamaged `.sdt` file that this version can read."""


class LimitError(SdtrtError):
    """The file or image exceeds a limit; limits are arguments and can be raised."""


class BundleError(SdtrtError):
    """A model bundle is missing, damaged, or does not fit the file."""


class DeviceError(SdtrtError):
    """This machine lacks a library, a driver or a device that the call needs."""


class ImageWarning(UserWarning):
    """Something of an image will not be in its file (bits, colours, frames), or of a file not in its image."""


class LatentsWarning(UserWarning):
    """Latents do not look like those of their latent space, for example since they are not at unit scale."""
