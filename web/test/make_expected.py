"""Write what the Python decoder makes of vectors: `expected.npz`.

Of the smaller ones of latent space tiny the pictures, RGBA, and previews; of those that are cut short or damaged the
symbols, by their digests, of some pictures, and what is told of them. And where the bytes of whole ones go, and
what files their latents make at another step.

Run it as `python web/test/make_expected.py` where sdtrt is installed, if a vector or a network is changed.
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
from sdtrt.engine.format.limits import DEFAULT_LIMITS
from sdtrt.engine.format.profile import resolve_profile
from sdtrt.errors import SdtrtError

HERE = Path(__file__).parent
VECTORS = HERE.parents[1] / "tests" / "vectors"
TINY, LARGEST = 1, 22_000  # pixels of a picture: all together they shall stay small
SCALE = 8
ENCODED, STEP_CODE = ("tiny_odd_size", "tiny_tiles", "tiny_1x1"), 2300  # as in encoder.test.js
CUTS, FLIPS = 6, 5  # how many ways to cut a vector short, and to damage it
OF_MODEL = "model_prior"  # which needs a model of its own
CODEC = sdtrt.Codec.open("tiny", precision="fp32")  # what bfloat16 rounds is no standard
SHOWN, PICTURES = (
    ("tiny_grey", "tiny_alpha", "layers_tiles_alpha", "residual", "overlay"),
    (3, 9),
)  # of which vectors and ways there are pictures


def text(told: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(told).encode(), np.uint8)


def rgba(image: Image.Image) -> NDArray[np.uint8]:
    return np.array(image.convert("RGBA"))


def partial(nbytes: int) -> Iterator[dict[str, int]]:
    """Yield what is done to a file of so many bytes: cut to a length, and one byte's bits flipped."""
    for n in range(1, CUTS):
        yield {"length": nbytes * n // CUTS, "at": 0, "flip": 0}
    for length in (nbytes - 5, nbytes - 3):
        yield {"length": length, "at": 0, "flip": 0}
    for n in range(FLIPS):
        yield {"length": nbytes, "at": 14 + (nbytes - 15) * n // (FLIPS - 1), "flip": 1 << n}


def of_latents(data: bytes) -> dict[str, Any]:
    """Return what there is of a file's latents, or the error that refuses it."""
    try:
        file, whole, _ = container.salvage(data)
        stored = LatentReader(file, DEFAULT_LIMITS, whole)
        if stored.kind == "latents":
            return {}
        _, height, width = stored.shape
        decoded = stored.decoded((0, height), (0, width))
    except SdtrtError as error:
        return {"error": type(error).__name__}
    points = b"" if decoded.points is None else decoded.points.tobytes()
    return {"sha256": hashlib.sha256(decoded.symbols.tobytes() + points).hexdigest()[:16], "missing": stored.lacking()}


def add_partial(arrays: dict[str, Any]) -> None:
    told = []
    for folder in sorted(path.parent for path in VECTORS.glob("*/expect.json") if path.parent.name != OF_MODEL):
        whole = (folder / "input.sdt").read_bytes()
        for number, done in enumerate(partial(len(whole))):
            data = bytearray(whole[: done["length"]])
            if done["at"] < len(data):
                data[done["at"]] ^= done["flip"]
            said = {"vector": folder.name, **done, **of_latents(bytes(data))}
            if folder.name in SHOWN and "error" not in said and number in PICTURES:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    said["picture"] = f"{folder.name}.partial{number}"
                    arrays[said["picture"]] = rgba(CODEC.decode(bytes(data), partial=True))
                said["told"] = "".join(str(one.message) for one in caught)
            told.append(said)
    arrays["partial"] = text(told)


def add_encoded(arrays: dict[str, Any]) -> None:
    """Add the digests of the files of some vectors' latents at another step."""
    digests = {}
    for name in ENCODED:
        file = container.read((VECTORS / name / "input.sdt").read_bytes())
        latents, size = decode_latents(file), (file.header.width, file.header.height)
        found = container.write(encode_latents_to_file(latents, *size, resolve_profile(file), STEP_CODE))
        digests[name] = hashlib.sha256(found).hexdigest()
    arrays["encoded"] = text(digests)


def main() -> None:
    arrays: dict[str, Any] = {}
    for folder in sorted(path.parent for path in VECTORS.glob("[!x]*/expect.json")):
        header = json.loads((folder / "expect.json").read_text())["header"]
        if header["profile"] == TINY and header["width"] * header["height"] <= LARGEST:
            arrays[folder.name] = rgba(CODEC.decode((folder / "input.sdt").read_bytes()))
            arrays[f"{folder.name}.preview"] = rgba(sdtrt.preview((folder / "input.sdt").read_bytes(), scale=SCALE))
    spent = {
        path.parent.name: sdtrt.info(path.parent / "input.sdt").bytes_by_section for path in VECTORS.glob("[!x]*/expect.json")
    }
    arrays["spent"] = text(spent)
    add_partial(arrays)
    add_encoded(arrays)
    np.savez_compressed(HERE / "expected.npz", **arrays)


if __name__ == "__main__":
    main()
