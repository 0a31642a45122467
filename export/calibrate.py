"""Main path of `sdtrt calibrate`: photos -> statistics -> a prior, if asked for -> scale of qualities -> the bundle."""

import hashlib
import json
import struct
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdtrt.atomic import check_folder, check_output, replace_file
from sdtrt.engine.format.profile import LatentProfile, pack_profile, parse_profile, profile_from_json
from sdtrt.engine.networks.bundle import MANIFEST, Bundle
from sdtrt.errors import BundleError, FormatError
from sdtrt.export.latents.calibrate import Networks
from sdtrt.export.latents.profiles import MeasuredSpace, measured_space
from sdtrt.export.latents.sample_images import photos_in
from sdtrt.export.latents.scale import measured_curve, own_error, scale_of

if TYPE_CHECKING:
    from sdtrt.export.prior.learn import Lesson

SHOWN = (1, 10, 25, 50, 75, 100)  # qualities


@dataclass(frozen=True, slots=True)
class Calibration:
    """What `sdtrt calibrate` is told."""

    bundle: Path
    photos: Path
    force: bool = False
    quiet: bool = True

    def check(self) -> Bundle:
        """Return the bundle; `BundleError` if its latent space needs no calibration, or it cannot be written."""
        bundle = Bundle.open(self.bundle)
        if not isinstance(bundle.profile, LatentProfile):
            space = bundle.latent_space
            raise BundleError(f"the numbers of latent space {space} ship with sdtrt: nothing to calibrate")
        if bundle.prior and not self.force:
            raise BundleError(
                f"bundle {bundle.name} has a prior, without which files made with it cannot be decoded; keep a copy of "
                "the bundle, and replace the prior in this one with --force"
            )
        photos_in(self.photos)
        check_output(bundle.folder / MANIFEST)
        return bundle


@dataclass(frozen=True, slots=True)
class Row:
    """What held-out crops take and lose at a quality, and how many bits they take by the adaptive prior."""

    quality: int
    bits_per_pixel: float
    psnr: float
    adaptive_bits_per_pixel: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What a calibration found.

    `ceiling` is the PSNR of the networks alone, in dB; `apart` tells whether crops are of photos that were not learned
    from.
    """

    rows: list[Row]
    ceiling: float
    crops: int
    apart: bool


def calibrate(wish: Calibration, lesson: "Lesson | None" = None) -> Measured:
    """Measure a bundle's latent space on photos, train a prior if there is a lesson, and put both into the bundle.

    Until the end the bundle stays as it is. Raises `BundleError` if its latent space's numbers ship with sdtrt, if
    photos say nothing of it, or if it has a prior and is not to lose it by `force`; `OSError` if it cannot be written.
    """
    bundle = wish.check()
    if lesson is not None:
        check_folder(bundle.folder.resolve().parent)  # where the training keeps what is done
    networks = Networks.of_bundle(bundle)
    space = measured_space(networks, wish.photos, bundle.latent_space, quiet=wish.quiet)
    profile = scaled(space, networks, None, quiet=wish.quiet)
    training: AbstractContextManager[bytes | None] = nullcontext()
    if lesson is not None:
        from sdtrt.export.prior.learn import learned_prior  # here, since it alone needs torch

        training = learned_prior(bundle, networks, profile, space.learned, lesson, quiet=wish.quiet)
    with training as prior_file:
        profile = scaled(space, networks, prior_file, quiet=wish.quiet) if prior_file else profile
        found = measured(networks, profile, space, quiet=wish.quiet)
        write(bundle, space.fields | {"step_codes": [*profile.step_codes]}, prior_file)
    return found


def scaled(space: MeasuredSpace, networks: Networks, prior_file: bytes | None, *, quiet: bool) -> LatentProfile:
    """Return a profile with its scale of qualities."""
    profile = profile_from_json(space.fields)
    profile = profile.with_prior(prior_file) if prior_file else profile
    return replace(profile, step_codes=scale_of(networks, profile, space.crops, quiet=quiet))


def measured(networks: Networks, profile: LatentProfile, space: MeasuredSpace, *, quiet: bool) -> Measured:
    crops = space.crops
    codes = [profile.step_code(quality) for quality in SHOWN]
    points = measured_curve(networks, profile, crops, codes, quiet=quiet)
    plain = points
    if profile.prior_file:
        adaptive = replace(profile, id=0, prior=0, prior_file=None)
        plain = measured_curve(networks, adaptive, crops, codes, quiet=quiet)
    rows = [
        Row(quality, 3 * point.bits, psnr(point.error), 3 * other.bits)
        for quality, point, other in zip(SHOWN, points, plain, strict=True)
    ]
    return Measured(rows, psnr(own_error(networks, crops)), len(crops), space.apart)


def psnr(error: float) -> float:
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def write(bundle: Bundle, fields: dict[str, Any], prior_file: bytes | None) -> None:
    """Put a profile and a prior into a bundle: the manifest, which is replaced at once, says which prior is its own.

    Raises `BundleError` if the profile is none that a file could hold.
    """
    try:
        parse_profile(pack_profile(profile_from_json(fields)))
    except (ArithmeticError, FormatError, ValueError, struct.error) as error:
        raise BundleError(f"nothing can be coded with what the photos say: {error}") from error
    path = bundle.folder / MANIFEST
    manifest = json.loads(path.read_text("utf-8"))
    manifest["files"].pop(manifest.pop("prior", None), None)
    if prior_file:
        digest = hashlib.sha256(prior_file).hexdigest()
        name = f"prior-{digest[:8]}.npz"
        replace_file(bundle.folder / name, prior_file)
        manifest |= {"prior": name, "files": manifest["files"] | {name: digest}}
    replace_file(path, (json.dumps(manifest | {"profile": fields}, indent=2, allow_nan=False) + "\n").encode())
    for former in bundle.folder.glob("prior-*.npz"):
        if former.name not in manifest["files"]:
            former.unlink()
