"""Write what the Python decoder makes of the smaller vectors of latent space tiny: `expected.npz`, RGBA, and previews.

Run it as `python web/test/make_expected.py` where sdtrt is installed, if a vector or a network is changed.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import sdtrt

HERE = Path(__file__).parent
VECTORS = HERE.parents[1] / "tests" / "vectors"
TINY, LARGEST = 1, 22_000  # pixels of a picture: all together they shall stay small
SCALE = 8


def rgba(image: Image.Image) -> NDArray[np.uint8]:
    return np.array(image.convert("RGBA"))


def main() -> None:
    arrays: dict[str, Any] = {}
    for folder in sorted(path.parent for path in VECTORS.glob("[!x]*/expect.json")):
        header = json.loads((folder / "expect.json").read_text())["header"]
        if header["profile"] == TINY and header["width"] * header["height"] <= LARGEST:
            arrays[folder.name] = rgba(sdtrt.decode((folder / "input.sdt").read_bytes(), model="tiny"))
            arrays[f"{folder.name}.preview"] = rgba(sdtrt.preview((folder / "input.sdt").read_bytes(), scale=SCALE))
    np.savez_compressed(HERE / "expected.npz", **arrays)


if __name__ == "__main__":
    main()
