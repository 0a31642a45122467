"""Fit the linear map from latents to colours that previews use, and add it to a profile.

    python -m sdtrt.export.latents.preview MODEL PHOTOS --profile engine/data/profiles/sd1-1.json

The map is fitted by least squares from decoded latents, at several qualities, to mean colours of blocks of photos.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sdtrt._arrays import F32Array, F64Array, U8Array
from sdtrt.atomic import replace_file
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.coding.encode_options import EncodeOptions
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.format import container
from sdtrt.engine.format.profile import Preview
from sdtrt.engine.image import ImageData
from sdtrt.engine.layers.layer_reader import box_downscale
from sdtrt.export.latents.sample_images import centre_crop, list_photos
from sdtrt.progress import progress

QUALITIES = (10, 30, 50, 70, 90)
MAX_SIDE = 512  # pixels
CHANNELS = {"tiny": (0, 28, 34, 1, 2, 3, 4, 5)}  # low frequencies; in other spaces all channels are used


def fit(samples: Iterable[tuple[F32Array, U8Array]], channels: Sequence[int]) -> Preview:
    """Return the preview fitted to samples: latents of `channels`, float32 (n, h, w), and colours, uint8 (h, w, 3)."""
    inputs = 9 * len(channels) + 1
    products, sums = np.zeros((inputs, inputs)), np.zeros((inputs, 3))
    for latents, colours in samples:
        features = neighbourhoods(latents)
        products += features.T @ features
        sums += features.T @ colours.reshape(-1, 3).astype(np.float64)
    solution = np.linalg.solve(products, sums).T.astype(np.float32)
    return Preview(tuple(channels), solution[:, :-1].reshape(3, len(channels), 3, 3), solution[:, -1])


def neighbourhoods(latents: F32Array) -> F64Array:
    """Return the 3x3 latents around each position, and a constant 1, float64 (h * w, 9 n + 1), in `Preview`'s order."""
    padded = np.pad(latents, ((0, 0), (1, 1), (1, 1)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    count = latents.shape[1] * latents.shape[2]
    features = windows.transpose(1, 2, 0, 3, 4).reshape(count, -1).astype(np.float64)
    return np.concatenate([features, np.ones((count, 1))], axis=1)


def samples(codec: EngineCodec, photos: Sequence[Path], channels: Sequence[int]) -> Iterator[tuple[F32Array, U8Array]]:
    """Yield the latents and the block colours of photos; qualities alternate from photo to photo."""
    scale = codec.profile.downscale
    for number, path in enumerate(progress(photos, quiet=False)):
        pixels = centre_crop(path, MAX_SIDE, scale)
        if pixels is not None:
            data = codec.encode(ImageData(pixels), EncodeOptions(quality=QUALITIES[number % len(QUALITIES)]))
            yield LatentReader(container.read(data)).read_channels(channels).dequantize(), box_downscale(pixels, scale)


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit the preview of a latent space, and add it to a profile.")
    parser.add_argument("model", help="a name or a bundle's folder")
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("--profile", type=Path, required=True, help="the profile's JSON file, which is rewritten")
    options = parser.parse_args()
    codec = EngineCodec(options.model, device="cpu", precision="fp32")
    channels = CHANNELS.get(codec.bundle.latent_space, tuple(range(codec.profile.channels)))
    preview = fit(samples(codec, list_photos(options.photos), channels), channels)
    fields = json.loads(options.profile.read_text())
    fields["preview"] = {
        "channels": channels,
        "weights": [float(f"{value:.5g}") for value in preview.weights.ravel()],
        "bias": [float(f"{value:.5g}") for value in preview.bias],
    }
    replace_file(options.profile, f"{json.dumps(fields, indent=1, allow_nan=False)}\n".encode())


if __name__ == "__main__":
    main()
