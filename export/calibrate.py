"""Main path of `sdtrt calibrate`: photos -> statistics -> a prior, if asked for -> scale of qualities -> the bundle."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdtrt.atomic import replace_file
from sdtrt.engine.format.profile import LatentProfile, profile_from_json
from sdtrt.engine.networks.bundle import MANIFEST, Bundle
from sdtrt.errors import BundleError
from sdtrt.export.latents.calibrate import Networks, measure, profile_fields
from sdtrt.export.latents.picture import photos_in
from sdtrt.export.latents.scale import divided, held_out_crops, measured_curve, own_error, scale_of

if TYPE_CHECKING:
    from sdtrt.export.prior.learn import Lesson

SHOWN = (1, 10, 25, 50, 75, 100)  # qualities


@dataclass(frozen=True, slots=True)
class Calibration:
    """What `sdtrt calibrate` is told."""

    bundle: Path
    photos: Path
    quiet: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """What held-out crops take and lose at a quality, and how many bits they take by the adaptive prior."""

    quality: int
    bits_per_pixel: float
    psnr: float
    adaptive_bits_per_pixel: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What a calibration found; `ceiling` is the PSNR of the networks alone."""

    rows: list[Row]
    ceiling: float
    crops: int


def calibrate(wish: Calibration, lesson: "Lesson | None" = None) -> Measured:
    """Measure a bundle's latent space on photos, train a prior if there is a lesson, and put both into the bundle.

    Until the end the bundle stays as it is. Raises `BundleError` if its latent space's numbers ship with sdtrt, or if
    photos say nothing of it.
    """
    bundle = Bundle.open(wish.bundle)
    if not isinstance(bundle.profile, LatentProfile):
        raise BundleError(f"the numbers of latent space {bundle.latent_space} ship with sdtrt: nothing to calibrate")
    networks = Networks.of_bundle(bundle)
    learned, judged = divided(photos_in(wish.photos))
    crops = held_out_crops(judged, networks.downscale)
    fields = profile_fields(measure(networks, learned, quiet=wish.quiet), bundle.latent_space, networks.downscale)
    profile = scaled(fields, networks, None, crops, quiet=wish.quiet)
    trained = None
    if lesson is not None:
        from sdtrt.export.prior.learn import learned_prior  # here, since it alone needs torch

        trained = learned_prior(bundle, networks, profile, learned, lesson, quiet=wish.quiet)
        profile = scaled(fields, networks, trained, crops, quiet=wish.quiet)
    found = measured(networks, profile, crops, quiet=wish.quiet)
    write(bundle, fields | {"step_codes": [*profile.step_codes]}, trained)
    return found


def scaled(
    fields: dict[str, Any],
    networks: Networks,
    trained: bytes | None,
    crops: Sequence[NDArray[np.uint8]],
    *,
    quiet: bool,
) -> LatentProfile:
    """Return a profile with its scale of qualities."""
    profile = profile_from_json(fields)
    profile = profile.with_prior(trained) if trained else profile
    return replace(profile, step_codes=scale_of(networks, profile, crops, quiet=quiet))


def measured(
    networks: Networks, profile: LatentProfile, crops: Sequence[NDArray[np.uint8]], *, quiet: bool
) -> Measured:
    codes = [profile.step_code(quality) for quality in SHOWN]
    points = measured_curve(networks, profile, crops, codes, quiet=quiet)
    plain = points
    if profile.trained:
        adaptive = replace(profile, id=0, prior=0, trained=None)
        plain = measured_curve(networks, adaptive, crops, codes, quiet=quiet)
    rows = [
        Row(quality, 3 * point.bits, psnr(point.error), 3 * other.bits)
        for quality, point, other in zip(SHOWN, points, plain, strict=True)
    ]
    return Measured(rows, psnr(own_error(networks, crops)), len(crops))


def psnr(error: float) -> float:
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def write(bundle: Bundle, fields: dict[str, Any], trained: bytes | None) -> None:
    """Put a profile and a prior into a bundle: the manifest, which is replaced at once, says which prior is its own."""
    path = bundle.folder / MANIFEST
    manifest = json.loads(path.read_text("utf-8"))
    old = manifest.pop("prior", None)
    manifest["files"].pop(old, None)
    if trained:
        digest = hashlib.sha256(trained).hexdigest()
        name = f"prior-{digest[:8]}.npz"
        replace_file(bundle.folder / name, trained)
        manifest |= {"prior": name, "files": manifest["files"] | {name: digest}}
    replace_file(path, (json.dumps(manifest | {"profile": fields}, indent=2) + "\n").encode())
    if old not in {None, manifest.get("prior")}:
        (bundle.folder / old).unlink(missing_ok=True)
