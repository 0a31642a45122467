"""Write `expected.npz`, the Python decoder's results for the conformance vectors.

- Images (RGBA) and previews of the smaller vectors of latent space tiny, and images of some in the look `fast`.
- `partial`: digests of the symbols of damaged vectors, with reports of their missing parts, and some images.
- `bytes_by_section`: the bytes of each part of the valid vectors.
- `encoded`: digests of files that are encoded from the latents of some vectors at another step code.

Run it as `python web/test/make_expected.py`, with sdtrt installed, after a vector or a network has changed.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import sdtrt
from sdtrt.engine.coding.latent_file import decode_latents, encode_latents_to_file
from sdtrt.engine.coding.latent_reader import LatentReader
from sdtrt.engine.format import container
from sdtrt.engine.format.latent_space import PALETTE
from sdtrt.engine.format.limits import DEFAULT_LIMITS
from sdtrt.engine.format.profile import resolve_profile
from sdtrt.errors import SdtrtError

HERE = Path(__file__).parent
VECTORS = HERE.parents[1] / "tests" / "vectors"
TINY = 1  # profile id
MAX_PIXELS = 22_000  # of an image, to keep expected.npz small
SCALE = 8
ENCODED, STEP_CODE = ("tiny_odd_size", "tiny_tiles", "tiny_1x1"), 2300  # as in encoder.test.js
CUTS, FLIPS = 6, 5  # numbers of truncated and of damaged versions of a vector
FAST = ("tiny_odd_size", "tiny_grey", "residual", "residual_coarse")  # in the look `fast`, as in decoder.test.js
NEEDS_MODEL = "model_prior"  # a vector with an external model
CODEC = sdtrt.Codec.open("tiny", precision="fp32")  # bfloat16 results depend on the CPU
# Vectors and numbers of damages that get an image.
WITH_IMAGE = ("tiny_grey", "tiny_alpha", "layers_tiles_alpha", "residual", "overlay")
IMAGE_NUMBERS = (3, 9)


def json_array(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def rgba(image: Image.Image) -> NDArray[np.uint8]:
    return np.array(image.convert("RGBA"))


def damages(nbytes: int) -> Iterator[dict[str, int]]:
    """Yield damages to a file of `nbytes` bytes: its new length, and the bits to flip in one byte."""
    for n in range(1, CUTS):
        yield {"length": nbytes * n // CUTS, "at": 0, "flip": 0}
    for length in (nbytes - 5, nbytes - 3):
        yield {"length": length, "at": 0, "flip": 0}
    for n in range(FLIPS):
        yield {"length": nbytes, "at": 14 + (nbytes - 15) * n // (FLIPS - 1), "flip": 1 << n}


def salvage_latents(data: bytes) -> dict[str, Any]:
    """Return the digest of a file's symbols with the report of missing tiles, or the error that refuses the file."""
    try:
        file, intact_segments, _ = container.salvage(data)
        reader = LatentReader(file, DEFAULT_LIMITS, intact_segments)
        if file.header.prior == PALETTE:
            return {}
        _, height, width = reader.shape
        decoded = reader.decode_symbols((0, height), (0, width))
    except SdtrtError as error:
        return {"error": type(error).__name__}
    offsets = b"" if decoded.recon_offsets is None else decoded.recon_offsets.tobytes()
    digest = hashlib.sha256(decoded.symbols.tobytes() + offsets).hexdigest()[:16]
    return {"sha256": digest, "missing": reader.missing_report()}


def add_partial(arrays: dict[str, Any]) -> None:
    """Add the results of salvaging damaged vectors."""
    cases = []
    for folder in sorted(path.parent for path in VECTORS.glob("*/expect.json") if path.parent.name != NEEDS_MODEL):
        original = (folder / "input.sdt").read_bytes()
        for number, damage in enumerate(damages(len(original))):
            data = bytearray(original[: damage["length"]])
            if damage["at"] < len(data):
                data[damage["at"]] ^= damage["flip"]
            case = {"vector": folder.name, **damage, **salvage_latents(bytes(data))}
            if folder.name in WITH_IMAGE and "error" not in case and number in IMAGE_NUMBERS:
                with warnings.catch_warnings(record=True) as messages:
                    warnings.simplefilter("always")
                    case["image"] = f"{folder.name}.partial{number}"
                    arrays[case["image"]] = rgba(CODEC.decode(bytes(data), partial=True))
                case["report"] = "".join(str(message.message) for message in messages)
            cases.append(case)
    arrays["partial"] = json_array(cases)


def add_encoded(arrays: dict[str, Any]) -> None:
    """Add the digests of files that are encoded from the latents of some vectors at another step code."""
    digests = {}
    for name in ENCODED:
        file = container.read((VECTORS / name / "input.sdt").read_bytes())
        latents, size = decode_latents(file), (file.header.width, file.header.height)
        encoded = container.write(encode_latents_to_file(latents, *size, resolve_profile(file), STEP_CODE))
        digests[name] = hashlib.sha256(encoded).hexdigest()
    arrays["encoded"] = json_array(digests)


def main() -> None:
    arrays: dict[str, Any] = {}
    for folder in sorted(path.parent for path in VECTORS.glob("[!x]*/expect.json")):
        header = json.loads((folder / "expect.json").read_text())["header"]
        if header["profile"] == TINY and header["width"] * header["height"] <= MAX_PIXELS:
            arrays[folder.name] = rgba(CODEC.decode((folder / "input.sdt").read_bytes()))
            arrays[f"{folder.name}.preview"] = rgba(sdtrt.preview((folder / "input.sdt").read_bytes(), scale=SCALE))
    for name in FAST[:2]:
        data = (VECTORS / name / "input.sdt").read_bytes()
        for scale in (1, 3):
            arrays[f"{name}.preview{scale}"] = rgba(CODEC.preview(data, scale=scale))
    for name in FAST:
        arrays[f"{name}.fast"] = rgba(CODEC.decode((VECTORS / name / "input.sdt").read_bytes(), look="fast"))
    bytes_by_section = {
        path.parent.name: sdtrt.info(path.parent / "input.sdt").bytes_by_section
        for path in VECTORS.glob("[!x]*/expect.json")
    }
    arrays["bytes_by_section"] = json_array(bytes_by_section)
    add_partial(arrays)
    add_encoded(arrays)
    np.savez_compressed(HERE / "expected.npz", **arrays)


if __name__ == "__main__":
    main()
