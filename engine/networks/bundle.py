"""Bundles: a folder with an encoder, a decoder and a manifest that says what they are."""

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from sdtrt.engine.coding.priors.prior_file import MAX_NBYTES, parse_prior
from sdtrt.engine.denoising.denoise import UnetSpec
from sdtrt.engine.format.container import BUNDLED, File
from sdtrt.engine.format.profile import (
    LatentProfile,
    pack_profile,
    parse_profile,
    profile_from_json,
    read_space_info,
    resolve_profile,
    shipped_profile,
)
from sdtrt.engine.networks.decode_options import Look
from sdtrt.errors import BundleError, FormatError
from sdtrt.process.environment import variable
from sdtrt.process.install import repair_command

SCHEMA = 1
MANIFEST = "bundle.json"
BUILT_IN = "tiny"
MIN_RANGE, MAX_RANGE = 1e-3, 1e6  # of pixel values
MAX_REACH = 1 << 10
PRIOR_REMEDY = "training makes another one: take it from a copy of the bundle"


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened manifest.

    `profile` is the latent profile with which the bundle writes files: the id of a shipped one, or the numbers that
    its files carry. Networks take and give float32 NCHW: `encoder.onnx` pixels -> latents, `decoder.onnx` latents ->
    pixels, the latter also the quantizer's step, float32 (N,), if `decoder_takes_step`. `vivid.onnx`, if there is one,
    is another decoder, for the look of that name; `look` is the one that is recommended. `prior`, if not None, is the
    file of a prior for the numbers in `profile`, to which the bundle's files then refer. Files named `*.fp16.onnx` are
    the same networks in half precision, for engines. `gradient.onnx`, if there is one, is the decoder's gradient, for
    searches; see `networks.gradient`. Pixels lie between `pixel_range`'s two numbers. `unet` is what is
    known of `unet.onnx`, None without one. `receptive_radius` is how many latents away encoder and decoder look,
    None if everywhere.
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
    files: dict[str, str]  # name -> SHA-256

    @classmethod
    def open(cls, folder: Path) -> "Bundle":
        """Read the manifest in `folder`; `BundleError` if it is missing, malformed or of a later schema."""
        path = folder / MANIFEST
        try:
            fields = json.loads(path.read_text())
        except FileNotFoundError as error:
            names = ", ".join(sorted(other.name for other in folder.iterdir())[:8]) if folder.is_dir() else ""
            there = f"there: {names}" if names else "there is nothing"
            raise BundleError(
                f"{folder} is not a bundle: it has no {MANIFEST}, {there}; bundles are made by sdtrt export and import"
            ) from error
        except (OSError, ValueError, RecursionError) as error:
            raise BundleError(f"{path} cannot be read: {error}; {_anew(folder)}") from error
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
            raise BundleError(f"{path} is malformed: {error!r}; {_anew(folder)}") from error

    @classmethod
    def _from_fields(cls, folder: Path, fields: dict[str, Any]) -> "Bundle":
        if fields["schema"] != SCHEMA:
            raise BundleError(f"{folder} has bundle schema {fields['schema']}, this sdtrt reads schema {SCHEMA}")
        low, high = map(float, fields["pixel_range"])
        if not MIN_RANGE <= high - low <= MAX_RANGE:
            raise ValueError(f"pixel range {low} to {high}")
        if not isinstance(fields["decoder_takes_step"], bool) or not isinstance(fields["latent_space"], str):
            raise TypeError("decoder_takes_step must be true or false, latent_space a text")
        profile = _profile(fields["profile"])
        if isinstance(profile, LatentProfile) and profile.latent_space != fields["latent_space"]:
            raise ValueError(f"latent space {fields['latent_space']} with a profile of {profile.latent_space}")
        return cls(
            folder=folder,
            name=str(fields["name"]),
            latent_space=fields["latent_space"],
            profile=profile,
            pixel_range=(low, high),
            decoder_takes_step=fields["decoder_takes_step"],
            unet=UnetSpec.from_fields(fields["unet"]) if "unet" in fields else None,
            receptive_radius=_reach(fields.get("reach")),
            look=_look(fields.get("look", "faithful"), fields["files"]),
            prior=_prior(fields.get("prior"), fields["files"], profile),
            files={plain_name(name): str(digest) for name, digest in fields["files"].items()},
        )

    def latent_profile(self) -> LatentProfile:
        """Return the profile with which the bundle writes files; `BundleError` if this version lacks it.

        If the bundle has a prior of its own, that is checked and goes along.
        """
        if not isinstance(self.profile, LatentProfile):
            return shipped_profile(self.profile)
        return self.profile.with_prior(self._read_prior(self.prior, self.profile)) if self.prior else self.profile

    def _read_prior(self, name: str, profile: LatentProfile) -> bytes:
        path = self.file(name)
        if path.stat().st_size > MAX_NBYTES:
            raise BundleError(f"{path} has {path.stat().st_size} bytes, a prior at most {MAX_NBYTES}")
        trained = path.read_bytes()
        channels = len(parse_prior(trained).architecture.order)
        if channels != profile.channels:
            raise BundleError(f"{path} is a prior for {channels} channels, the latents have {profile.channels}")
        return trained

    def file(self, name: str) -> Path:
        """Return the path of one of the bundle's files, its hash checked; `BundleError` if it is missing or differs."""
        path = self.folder / name
        remedy = PRIOR_REMEDY if name == self.prior else self.repair_hint
        if name not in self.files:
            raise BundleError(f"bundle {self.name} has no {name}; {remedy}")
        try:
            digest = file_hash(path)
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error}; {remedy}") from error
        if digest != self.files[name]:
            raise BundleError(
                f"{path} is damaged: its SHA-256 is {digest}, the manifest says {self.files[name]}; {remedy}"
            )
        return path

    @property
    def has_vivid_decoder(self) -> bool:
        """Whether there is a decoder for the vivid look."""
        return "vivid.onnx" in self.files

    @property
    def cli_name(self) -> str:
        """What commands call this bundle: the name of a built-in one, else the folder."""
        return self.name if self.is_built_in else str(self.folder)

    @property
    def is_built_in(self) -> bool:
        return self.folder.is_relative_to(built_in_root())

    @property
    def repair_hint(self) -> str:
        """What to run when a file is missing or damaged."""
        if self.is_built_in:
            return _anew(self.folder)
        return f"make the bundle again: sdtrt export or sdtrt import, with --force --out {self.folder}"


def _anew(folder: Path) -> str:
    """Return what to run when a manifest is damaged."""
    if folder.is_relative_to(built_in_root()):
        return f"restore it: {repair_command(folder)}"
    return f"remove {folder}, and make the bundle again: sdtrt export or sdtrt import"


def file_hash(path: Path) -> str:
    """Return a file's SHA-256, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain_name(name: str) -> str:
    """Return a file's name if it is one within its folder; `ValueError` if it would lead elsewhere."""
    if name in {"", ".", ".."} or "/" in name or "\\" in name or "\0" in name:
        raise ValueError(f"{name!r} is not the name of a file in the bundle")
    return name


def _profile(field: object) -> int | LatentProfile:
    """Return a manifest's profile; one given in full is rounded and checked as a file's own would be."""
    if isinstance(field, dict):
        return parse_profile(pack_profile(profile_from_json(field)))
    if type(field) is not int:
        raise TypeError(f"profile {field!r} is neither the id of one nor one in full")
    return field


def _reach(field: object) -> int | None:
    if field is not None and (type(field) is not int or not 0 <= field <= MAX_REACH):
        raise ValueError(f"reach {field!r}, expected 0 to {MAX_REACH} latents")
    return field


def _look(field: object, files: dict[str, Any]) -> Look:
    if field == "vivid" and "vivid.onnx" in files:
        return "vivid"
    if field != "faithful":
        raise ValueError(f"look {field!r}, expected faithful, or vivid with a vivid.onnx")
    return "faithful"


def _prior(field: object, files: dict[str, Any], profile: int | LatentProfile) -> str | None:
    if field is not None and (
        not isinstance(field, str) or field not in files or not isinstance(profile, LatentProfile)
    ):
        raise ValueError(f"prior {field!r}, expected one of the files, and a profile in full")
    return field


def built_in_root() -> Path:
    """Return the folder in the package in which the built-in bundles lie."""
    return Path(str(resources.files("sdtrt.engine"))) / "data" / "bundles"


def bundle_folders() -> list[Path]:
    """Return the folders of all bundles that can be named: the built-in ones, then those under `$SDTRT_MODELS`."""
    roots = [built_in_root()]
    if models := variable("SDTRT_MODELS"):
        roots.append(Path(models))
    return [path.parent for root in roots for path in sorted(root.glob(f"*/{MANIFEST}"))]


def models_folder_error() -> str:
    """Return what is wrong with the folder that `$SDTRT_MODELS` names; nothing if it can be read or none is named."""
    models = variable("SDTRT_MODELS")
    if models is None or (Path(models).is_dir() and os.access(models, os.R_OK | os.X_OK)):
        return ""
    return f"$SDTRT_MODELS names {models}, which is not a folder that can be read"


def find_bundle(model: str | Path) -> Bundle:
    """Return the bundle of a name or folder; `BundleError` names those that there are."""
    folders = bundle_folders()
    for folder in folders:
        if folder.name == str(model):
            return Bundle.open(folder)
    if Path(model).is_dir():
        return Bundle.open(Path(model))
    names = ", ".join(folder.name for folder in folders)
    hint = models_folder_error() or "see: sdtrt models"
    raise BundleError(f"no model named {str(model)!r} and no such folder; there are: {names} ({hint})")


def model_profile_for(file: File) -> LatentProfile | None:
    """Return the profile of the model to which a file refers; None if it refers to none. Errors of `find_bundle_for`."""
    return find_bundle_for(file).latent_profile() if file.header.profile == BUNDLED else None


def find_bundle_for(file: File) -> Bundle:
    """Return the first bundle that decodes a file; `BundleError` if none does, `FormatError` if the file is malformed.

    It is one of the file's latent space, and if the file refers to a bundle's prior, one that has it.
    """
    latent_space = read_space_info(file).latent_space
    found, near, broken = set(), "", ""
    for folder in bundle_folders():
        try:
            bundle = Bundle.open(folder)
        except BundleError as error:
            broken = f" ({error})"
            continue
        if bundle.latent_space == latent_space:
            try:
                resolve_profile(file, bundle.latent_profile())
            except BundleError as error:  # it has another prior, or a damaged one
                near = f" ({error})"
            else:
                return bundle
        found.add(bundle.latent_space)
    folder_error = models_folder_error()
    spaces, why = ", ".join(sorted(found)), near or broken or (folder_error and f" ({folder_error})")
    raise BundleError(
        f"the file is in latent space {latent_space}, there are models for: {spaces}{why}; "
        "put a bundle for it under $SDTRT_MODELS or name its folder with --model"
    )
