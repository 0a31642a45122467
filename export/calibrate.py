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
from sdtrt.export.latents.profiles import CalibratedSpace, calibrate_space
from sdtrt.export.latents.quality_range import measure_quality_range, network_error, rate_distortion_curve
from sdtrt.export.latents.sample_images import list_photos
from sdtrt.export.latents.statistics import CodecPair

if TYPE_CHECKING:
    from sdtrt.export.prior.model_prior import PriorTrainingOptions

REPORT_QUALITIES = (1, 10, 25, 50, 75, 100)  # qualities


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
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
        list_photos(self.photos)
        check_output(bundle.folder / MANIFEST)
        return bundle


@dataclass(frozen=True, slots=True)
class QualityRow:
    """What held-out crops take and lose at a quality, and how many bits they take by the adaptive prior."""

    quality: int
    bits_per_pixel: float
    psnr: float
    adaptive_bits_per_pixel: float


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """What a calibration found.

    `ceiling` is the PSNR of the networks alone, in dB; `held_out` tells whether crops are of photos that were not learned
    from.
    """

    rows: list[QualityRow]
    ceiling: float
    crops: int
    held_out: bool


def calibrate(options: CalibrateOptions, prior_options: "PriorTrainingOptions | None" = None) -> CalibrationReport:
    """Measure a bundle's latent space on photos, train a prior if there is a lesson, and put both into the bundle.

    Until the end the bundle stays as it is. Raises `BundleError` if its latent space's numbers ship with sdtrt, if
    photos say nothing of it, or if it has a prior and is not to lose it by `force`; `OSError` if it cannot be written.
    """
    bundle = options.check()
    if prior_options is not None:
        check_folder(bundle.folder.resolve().parent)  # where the training keeps what is done
    pair = CodecPair.of_bundle(bundle)
    space = calibrate_space(pair, options.photos, bundle.latent_space, quiet=options.quiet)
    profile = with_quality_range(space, pair, None, quiet=options.quiet)
    training: AbstractContextManager[bytes | None] = nullcontext()
    if prior_options is not None:
        from sdtrt.export.prior.model_prior import trained_prior  # here, since it alone needs torch

        training = trained_prior(bundle, pair, profile, space.training_photos, prior_options, quiet=options.quiet)
    with training as prior_file:
        profile = with_quality_range(space, pair, prior_file, quiet=options.quiet) if prior_file else profile
        found = build_report(pair, profile, space, quiet=options.quiet)
        write_into_bundle(bundle, space.profile_fields | {"step_codes": [*profile.step_codes]}, prior_file)
    return found


def with_quality_range(
    space: CalibratedSpace, pair: CodecPair, prior_file: bytes | None, *, quiet: bool
) -> LatentProfile:
    """Return a profile with its scale of qualities."""
    profile = profile_from_json(space.profile_fields)
    profile = profile.with_prior(prior_file) if prior_file else profile
    return replace(profile, step_codes=measure_quality_range(pair, profile, space.eval_crops, quiet=quiet))


def build_report(pair: CodecPair, profile: LatentProfile, space: CalibratedSpace, *, quiet: bool) -> CalibrationReport:
    crops = space.eval_crops
    codes = [profile.step_code(quality) for quality in REPORT_QUALITIES]
    points = rate_distortion_curve(pair, profile, crops, codes, quiet=quiet)
    plain = points
    if profile.prior_file:
        adaptive = replace(profile, id=0, prior=0, prior_file=None)
        plain = rate_distortion_curve(pair, adaptive, crops, codes, quiet=quiet)
    rows = [
        QualityRow(quality, 3 * point.bits, psnr(point.error), 3 * other.bits)
        for quality, point, other in zip(REPORT_QUALITIES, points, plain, strict=True)
    ]
    return CalibrationReport(rows, psnr(network_error(pair, crops)), len(crops), space.held_out)


def psnr(error: float) -> float:
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def write_into_bundle(bundle: Bundle, fields: dict[str, Any], prior_file: bytes | None) -> None:
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
