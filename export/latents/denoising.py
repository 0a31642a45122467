"""The quantization steps at which a bundle's UNet improves images, measured on photos."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.format import container
from sdtrt.engine.image import ImageData, psnr
from sdtrt.engine.networks.bundle import MANIFEST
from sdtrt.engine.networks.decode_request import DecodeOptions
from sdtrt.errors import BundleError
from sdtrt.export.latents.sample_images import centre_crop, list_photos
from sdtrt.progress import announce, progress

QUALITIES = (5, 15, 25, 35, 50, 70)
PHOTOS, SIDE = 8, 256  # pixels
STEPS = 1  # one DDIM step estimates the mean of all possible images; more steps do not improve PSNR
MIN_GAIN = 0.02  # dB; less does not justify the network's time


def measure_unet_gain(folder: Path, photos: Path, *, quiet: bool) -> str:
    """Measure the PSNR gain of a bundle's UNet, and write its default use into the manifest; return a message.

    Arguments:
        folder: The bundle's folder, whose manifest is changed.
        photos: Folder of photos.
        quiet: Whether progress is not printed.
    """
    gains = measure_gains(EngineCodec(folder, device="cpu", precision="fp32"), list_photos(photos), quiet=quiet)
    auto = choose_auto_steps(gains)
    fields = json.loads((folder / MANIFEST).read_text())
    fields["unet"] |= {
        "auto": auto,
        "gains": [{"step": quant_step, "psnr": gain} for quant_step, gain in gains.items()],
    }
    (folder / MANIFEST).write_text(json.dumps(fields, indent=2, allow_nan=False) + "\n", "utf-8")
    best = max(gains.values())
    if auto is None:
        return f"the UNet is used on demand only: it does not help by default ({best:+.2f} dB at best)"
    return f"the UNet is used by default from step {auto['from_step']:.2f} up ({best:+.2f} dB at best)"


def measure_gains(codec: EngineCodec, photos: Sequence[Path], *, quiet: bool) -> dict[float, float]:
    """Return the mean gain of denoising in dB of PSNR, by quantization step from fine to coarse."""
    sampled = photos[:: -(-len(photos) // PHOTOS)]
    images = [ImageData(pixels) for path in sampled if (pixels := centre_crop(path, SIDE, 1)) is not None]
    if not images:
        raise BundleError(f"none of {len(photos)} photos can be read")
    gains: dict[float, list[float]] = {}
    announce(f"measuring the UNet on {len(images)} photos", quiet=quiet)
    for image in progress(images, quiet=quiet):
        for quality in reversed(QUALITIES):
            data = codec.encode(image, EncodeOptions(quality=quality))
            without, denoised = (
                psnr(image.pixels, codec.decode(data, options=DecodeOptions(n, "faithful")).pixels) for n in (0, STEPS)
            )
            gains.setdefault(container.read(data).header.quant_step, []).append(denoised - without)
    return {quant_step: round(sum(values) / len(values), 3) for quant_step, values in gains.items()}


def choose_auto_steps(gains: Mapping[float, float]) -> dict[str, Any] | None:
    """Return the manifest's field `auto`: the finest step such that denoising helps there and at all coarser steps.

    None if denoising does not help at the coarsest step.
    """
    from_step = None
    for quant_step, gain in sorted(gains.items(), reverse=True):
        if gain < MIN_GAIN:
            break
        from_step = quant_step
    return None if from_step is None else {"steps": STEPS, "from_step": from_step}
