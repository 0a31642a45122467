"""Main path of `sdtrt calibrate`: photos -> statistics -> optionally a prior -> quality range -> bundle."""

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

REPORT_QUALITIES = (1, 10, 25, 50, 75, 100)


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
    """The options of `sdtrt calibrate`.

    Attributes:
        bundle: Folder of the bundle, which is changed.
        photos: Folder of photos, some dozens.
        force: Whether a prior that the bundle has is replaced.
        quiet: Whether progress is not printed.
    """

    bundle: Path
    photos: Path
    force: bool = False
    quiet: bool = True

    def check(self) -> Bundle:
        """Return the bundle, without running its networks.

        Raises:
            BundleError: Its latent space has a shipped profile, it has a prior and `force` is not set, or there are no
                photos.
            OSError: The bundle cannot be written.
        """
        bundle = Bundle.open(self.bundle)
        if not isinstance(bundle.profile, LatentProfile):
            space = bundle.latent_space
            raise BundleError(f"the profile of latent space {space} ships with sdtrt: nothing to calibrate")
        if bundle.prior and not self.force:
            raise BundleError(
                f"bundle {bundle.name} has a prior, and files coded with it need it for decoding; keep a copy of the "
                "bundle, then replace the prior in this one with --force"
            )
        list_photos(self.photos)
        check_output(bundle.folder / MANIFEST)
        return bundle


@dataclass(frozen=True, slots=True)
class QualityRow:
    """Rate and distortion of the evaluation crops at one quality.

    Attributes:
        quality: 1 to 100.
        bits_per_pixel: Rate with the bundle's prior.
        psnr: In dB.
        adaptive_bits_per_pixel: Rate with the adaptive prior.
    """

    quality: int
    bits_per_pixel: float
    psnr: float
    adaptive_bits_per_pixel: float


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """The result of a calibration.

    Attributes:
        rows: Rate and distortion at `REPORT_QUALITIES`.
        ceiling: PSNR of the networks without quantization, in dB.
        crops: Number of evaluation crops.
        held_out: Whether the crops are of photos that were not used for training.
    """

    rows: list[QualityRow]
    ceiling: float
    crops: int
    held_out: bool


def calibrate(options: CalibrateOptions, prior_options: "PriorTrainingOptions | None" = None) -> CalibrationReport:
    """Measure a bundle's latent space on photos and write the profile, and optionally a new prior, into the bundle.

    The bundle is unchanged until the end.

    Arguments:
        options: The bundle and the photos.
        prior_options: How to train a prior; None for no prior.

    Raises:
        BundleError: See `CalibrateOptions.check`; also if no photo is usable or the latents cannot be coded.
        OSError: The bundle cannot be written.
    """
    bundle = options.check()
    if prior_options is not None:
        check_folder(bundle.folder.resolve().parent)  # the training keeps its checkpoints there
    pair = CodecPair.of_bundle(bundle)
    space = calibrate_space(pair, options.photos, bundle.latent_space, quiet=options.quiet)
    profile = with_quality_range(space, pair, None, quiet=options.quiet)
    training: AbstractContextManager[bytes | None] = nullcontext()
    if prior_options is not None:
        from sdtrt.export.prior.model_prior import trained_prior  # imports torch

        training = trained_prior(bundle, pair, profile, space.training_photos, prior_options, quiet=options.quiet)
    with training as prior_file:
        profile = with_quality_range(space, pair, prior_file, quiet=options.quiet) if prior_file else profile
        report = build_report(pair, profile, space, quiet=options.quiet)
        write_into_bundle(bundle, space.profile_fields | {"step_codes": [*profile.step_codes]}, prior_file)
    return report


def with_quality_range(
    space: CalibratedSpace, pair: CodecPair, prior_file: bytes | None, *, quiet: bool
) -> LatentProfile:
    """Return the space's profile with its measured quality range, for a prior's file or the adaptive prior."""
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
    """Put a profile and a prior into a bundle.

    The manifest names the prior's file and is replaced atomically. Raises `BundleError` if no file can hold the
    profile.
    """
    try:
        parse_profile(pack_profile(profile_from_json(fields)))
    except (ArithmeticError, FormatError, ValueError, struct.error) as error:
        raise BundleError(f"latents cannot be coded with the profile measured on the photos: {error}") from error
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
