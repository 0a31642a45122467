"""Bundles: folders with the networks of a model and a manifest, `bundle.json`."""

import hashlib
import json
import os
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from threading import RLock
from typing import Any

from sdtrt.engine.coding.priors.prior_file import MAX_NBYTES, parse_prior
from sdtrt.engine.denoising.denoise import UnetSpec
from sdtrt.engine.format.container import File
from sdtrt.engine.format.latent_space import BUNDLED
from sdtrt.engine.format.profile import (
    LatentProfile,
    pack_profile,
    parse_profile,
    profile_from_json,
    resolve_profile,
    shipped_profile,
)
from sdtrt.engine.networks.choices import OTHER_LOOKS, Look
from sdtrt.errors import BundleError, FormatError
from sdtrt.process.environment import variable
from sdtrt.process.install import repair_command

SCHEMA = 1
MANIFEST = "bundle.json"
MIN_RANGE, MAX_RANGE = 1e-3, 1e6  # of pixel values
MAX_RADIUS = 1 << 10  # latents
PRIOR_REPAIR_HINT = "a new training would give another prior: copy the file from a copy of the bundle"


@dataclass(frozen=True)
class Bundle:
    """An open bundle: its manifest.

    Networks take and give float32 NCHW. `encoder.onnx` maps pixels to latents, `decoder.onnx` maps latents to pixels.
    `fast.onnx`, the decoder of that look, is optional; so are `unet.onnx` and `gradient.onnx`, the denoiser and the
    gradient of the decoder (see `networks.gradient`). `decoder.int8.onnx` is the decoder in eight
    bits, `*.fp16.onnx` are the same networks in half precision.

    Attributes:
        folder: the absolute path of the bundle.
        name: the name of the model.
        latent_space: the name of the latent space.
        profile: the profile of the files that the bundle writes: the id of a shipped profile, or a profile in full.
        pixel_range: the lowest and the highest value of pixels in the networks.
        decoder_takes_step: whether decoders have an input `step`, the quantization step, float32 (N,).
        unet: the properties of `unet.onnx`; None without it.
        receptive_radius: the radius of the receptive field of encoder and decoder in latents; None if unlimited.
        look: the recommended look.
        prior: the name of the bundle's own prior, to which its files refer; None for a shipped prior.
        files: the SHA-256 of each file, by name.
    """

    folder: Path
    name: str
    latent_space: str
    profile: int | LatentProfile
    pixel_range: tuple[float, float]
    decoder_takes_step: bool
    unet: UnetSpec | None
    receptive_radius: int | None
    look: Look
    prior: str | None
    files: dict[str, str]
    _checked_files: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    @classmethod
    def open(cls, folder: Path) -> "Bundle":
        """Read the manifest in a folder.

        Raises:
            BundleError: the manifest is missing, malformed or of another schema.
        """
        path = folder / MANIFEST
        try:
            fields = json.loads(path.read_text())
        except FileNotFoundError as error:
            names = ", ".join(sorted(other.name for other in folder.iterdir())[:8]) if folder.is_dir() else ""
            contents = f"there: {names}" if names else "there is nothing"
            raise BundleError(
                f"{folder} is not a bundle: it has no {MANIFEST}, {contents}; "
                "bundles are made by sdtrt export and import"
            ) from error
        except (OSError, ValueError, RecursionError) as error:
            raise BundleError(f"{path} cannot be read: {error}; {_manifest_repair_hint(folder)}") from error
        try:
            return cls._from_fields(folder, fields)
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
            struct.error,
            FormatError,
        ) as error:
            raise BundleError(f"{path} is malformed: {error!r}; {_manifest_repair_hint(folder)}") from error

    @classmethod
    def _from_fields(cls, folder: Path, fields: dict[str, Any]) -> "Bundle":
        if fields["schema"] != SCHEMA:
            raise BundleError(f"{folder} has bundle schema {fields['schema']}, this sdtrt reads schema {SCHEMA}")
        low, high = map(float, fields["pixel_range"])
        if not MIN_RANGE <= high - low <= MAX_RANGE:
            raise ValueError(f"pixel range {low} to {high}, expected a difference of {MIN_RANGE} to {MAX_RANGE}")
        if not isinstance(fields["decoder_takes_step"], bool) or not isinstance(fields["latent_space"], str):
            raise TypeError("decoder_takes_step must be true or false, latent_space must be a string")
        profile = _parse_profile_field(fields["profile"])
        if isinstance(profile, LatentProfile) and profile.latent_space != fields["latent_space"]:
            raise ValueError(f"latent space {fields['latent_space']}, but the profile has {profile.latent_space}")
        look, radius, prior = fields.get("look", "faithful"), fields.get("reach"), fields.get("prior")
        if look not in looks_of(fields["files"]):
            raise ValueError(f"look {look!r}, expected one of {', '.join(looks_of(fields['files']))}")
        if radius is not None and (type(radius) is not int or not 0 <= radius <= MAX_RADIUS):
            raise ValueError(f"reach {radius!r}, expected 0 to {MAX_RADIUS} latents")
        if prior is not None and not (
            isinstance(prior, str) and prior in fields["files"] and isinstance(profile, LatentProfile)
        ):
            raise ValueError(f"prior {prior!r}, expected one of the files, and a profile in full")
        return cls(
            folder=folder.absolute(),  # networks are loaded later, when the current folder may be another one
            name=str(fields["name"]),
            latent_space=fields["latent_space"],
            profile=profile,
            pixel_range=(low, high),
            decoder_takes_step=fields["decoder_takes_step"],
            unet=UnetSpec.from_fields(fields["unet"]) if "unet" in fields else None,
            receptive_radius=radius,
            look=look,
            prior=prior,
            files={plain_name(name): str(digest) for name, digest in fields["files"].items()},
        )

    @cached_property
    def latent_profile(self) -> LatentProfile:
        """The profile of the files that the bundle writes, with the bundle's own prior if it has one.

        Raises:
            BundleError: this version lacks the shipped profile, or the prior is missing or damaged.
        """
        if not isinstance(self.profile, LatentProfile):
            return shipped_profile(self.profile)
        return self.profile.with_prior(self._read_prior(self.prior, self.profile)) if self.prior else self.profile

    def _read_prior(self, name: str, profile: LatentProfile) -> bytes:
        path = self.file(name)
        if path.stat().st_size > MAX_NBYTES:
            raise BundleError(f"{path} has {path.stat().st_size} bytes, a prior has at most {MAX_NBYTES}")
        prior = path.read_bytes()
        channels = len(parse_prior(prior).architecture.order)
        if channels != profile.channels:
            raise BundleError(f"{path} is a prior for {channels} channels, the latents have {profile.channels}")
        return prior

    def file(self, name: str) -> Path:
        """Return the path of a file of the bundle. The first call for a file checks its hash.

        Raises:
            BundleError: the file is missing or damaged.
        """
        path = self.folder / name
        if name in self._checked_files:
            return path
        fault = ""
        if name not in self.files:
            fault = f"bundle {self.name} has no {name}"
        else:
            try:
                if (digest := file_hash(path)) != self.files[name]:
                    fault = f"{path} is damaged: its SHA-256 is {digest}, the manifest has {self.files[name]}"
            except OSError as error:
                fault = f"{path} cannot be read: {error}"
        if fault:
            raise BundleError(f"{fault}; {PRIOR_REPAIR_HINT if name == self.prior else self.repair_hint}")
        self._checked_files.add(name)
        return path

    @property
    def looks(self) -> tuple[Look, ...]:
        """The looks for which the bundle has a decoder."""
        return looks_of(self.files)

    @property
    def cli_name(self) -> str:
        """The name of the bundle on the command line: the model's name if it is built in, else the folder."""
        return self.name if self.is_built_in else str(self.folder)

    @property
    def is_built_in(self) -> bool:
        """Whether the bundle is part of the package."""
        return self.folder.is_relative_to(built_in_root())

    @property
    def repair_hint(self) -> str:
        """What the user can do about a missing or damaged file."""
        if self.is_built_in:
            return _manifest_repair_hint(self.folder)
        return f"make the bundle again: sdtrt export or sdtrt import, with --force --out {self.folder}"


def _manifest_repair_hint(folder: Path) -> str:
    """Return what the user can do about a damaged manifest."""
    if folder.is_relative_to(built_in_root()):
        return f"restore it: {repair_command(folder)}"
    return f"remove {folder}, and make the bundle again: sdtrt export or sdtrt import"


def looks_of(files: Collection[str]) -> tuple[Look, ...]:
    """Return the looks for which a bundle with these files has a decoder."""
    return "faithful", *(look for look in OTHER_LOOKS if f"{look}.onnx" in files)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain_name(name: str) -> str:
    """Return a file's name.

    Raises:
        ValueError: the name is empty, or leads out of the folder.
    """
    if name in {"", ".", ".."} or "/" in name or "\\" in name or "\0" in name:
        raise ValueError(f"{name!r} is not the name of a file in the bundle")
    return name


def _parse_profile_field(value: object) -> int | LatentProfile:
    """Return a manifest's profile. A profile in full is rounded and checked like the profile inside a file."""
    if isinstance(value, dict):
        return parse_profile(pack_profile(profile_from_json(value)))
    if type(value) is not int:
        raise TypeError(f"profile {value!r} is neither the id of a profile nor a profile in full")
    return value


@cache
def built_in_root() -> Path:
    """Return the folder of the built-in bundles, in the package."""
    return Path(str(resources.files("sdtrt.engine"))) / "data" / "bundles"


def bundle_folders() -> Iterator[Path]:
    """Yield the folders of all bundles that have a name: first built-in ones, then those under `$SDTRT_MODELS`."""
    yield from (path.parent for path in sorted(built_in_root().glob(f"*/{MANIFEST}")))
    if models := variable("SDTRT_MODELS"):
        yield from (path.parent for path in sorted(Path(models).glob(f"*/{MANIFEST}")))


def models_folder_error() -> str:
    """Return why the folder `$SDTRT_MODELS` cannot be read; empty if it can, or if the variable is not set."""
    models = variable("SDTRT_MODELS")
    if models is None or (Path(models).is_dir() and os.access(models, os.R_OK | os.X_OK)):
        return ""
    return f"$SDTRT_MODELS names {models}, which is not a readable folder"


class OpenedBundles:
    """Bundles that were opened before, one for each folder, as long as none of their files changes."""

    def __init__(self) -> None:
        self._bundles: dict[Path, tuple[Bundle, object]] = {}
        self._lock = RLock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew_lock)

    def open(self, folder: Path) -> Bundle:
        """Return the bundle in a folder: the same object as before if its files are unchanged.

        Raises:
            BundleError: as of `Bundle.open`.
        """
        folder = folder.absolute()
        with self._lock:
            bundle, state = self._bundles.get(folder, (None, None))
            if bundle is None or _state_of_files(bundle) != state:
                bundle = Bundle.open(folder)
                self._bundles[folder] = bundle, _state_of_files(bundle)
            return bundle

    def _renew_lock(self) -> None:
        self._lock = RLock()  # another thread of the parent process may have held the lock


def _state_of_files(bundle: Bundle) -> object:
    """Return a value that changes whenever the manifest or a file of a bundle is written or replaced."""
    state: list[object] = []
    for name in (MANIFEST, *bundle.files):
        try:
            stat = (bundle.folder / name).stat()
            state.append((stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino))
        except OSError:
            state.append(None)
    return state


opened_bundles = OpenedBundles()


def find_bundle(model: str | Path) -> Bundle:
    """Open a bundle.

    Arguments:
        model: the name of a model, or the folder of a bundle.

    Raises:
        BundleError: there is no such bundle, or it is malformed. The message lists the names of models.
    """
    names = []
    for folder in bundle_folders():
        if folder.name == str(model):
            return opened_bundles.open(folder)
        names.append(folder.name)
    if Path(model).is_dir():
        return opened_bundles.open(Path(model))
    hint = models_folder_error() or "see: sdtrt models"
    raise BundleError(f"no model named {str(model)!r} and no such folder; there are: {', '.join(names)} ({hint})")


def model_profile_for(file: File) -> LatentProfile | None:
    """Return the profile of the model to which a file refers; None if it refers to no model.

    Raises:
        BundleError, FormatError: as of `find_bundle_for`.
    """
    return find_bundle_for(file).latent_profile if file.header.profile == BUNDLED else None


def find_bundle_for(file: File) -> Bundle:
    """Open the first bundle that decodes a file: it has the file's latent space, and the prior of the file.

    Raises:
        BundleError: no bundle decodes the file.
        FormatError: the file is malformed.
    """
    latent_space = file.space.latent_space
    spaces, prior_error, open_error = set[str](), "", ""
    for folder in bundle_folders():
        try:
            bundle = opened_bundles.open(folder)
        except BundleError as error:
            open_error = f" ({error})"
            continue
        spaces.add(bundle.latent_space)
        if bundle.latent_space == latent_space:
            try:
                resolve_profile(file, bundle.latent_profile)
            except BundleError as error:  # the bundle has another prior, or a damaged one
                prior_error = f" ({error})"
            else:
                return bundle
    folder_error = models_folder_error()
    reason = prior_error or open_error or (folder_error and f" ({folder_error})")
    raise BundleError(
        f"the file is in latent space {latent_space}, there are models for: {', '.join(sorted(spaces))}{reason}; "
        "put a bundle for it under $SDTRT_MODELS or name its folder with --model"
    )
