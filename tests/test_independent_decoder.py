"""docs/format.md suffices: a decoder written from it alone agrees with the vectors and refuses the broken ones."""

import hashlib
import json
import runpy
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parent
CASES = sorted(path.parent for path in (TESTS / "vectors").glob("*/input.sdt"))
decode = runpy.run_path(str(TESTS / "independent_decoder.py"))["decode"]


def model_of(case: Path) -> tuple[bytes, bytes] | None:
    """Return the profile and the prior of the model that a file refers to."""
    said = json.loads((case / "expect.json").read_text()).get("model")
    return said and (bytes.fromhex(said["profile"]), (TESTS.parent / said["prior"]).read_bytes())


def sha256_of_alpha(case: Path) -> str | bool:
    return json.loads((case / "expect.json").read_text()).get("alpha_sha256", False)


@pytest.mark.parametrize("case", [case for case in CASES if not case.name.startswith("x_")], ids=lambda case: case.name)
def test_what_files_hold(case: Path) -> None:
    found = decode((case / "input.sdt").read_bytes(), model_of(case))
    expected = {path.stem: np.load(path) for path in case.glob("*.npy")}
    alpha = found.pop("alpha", None)
    assert (alpha is not None and hashlib.sha256(alpha.tobytes()).hexdigest()) == sha256_of_alpha(case)
    assert found.keys() == expected.keys()
    for kind, array in expected.items():
        if kind == "latents":  # floats: a decoder may round them otherwise
            assert found[kind].dtype == array.dtype
            np.testing.assert_allclose(found[kind], array, rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(found[kind], array, strict=True)


# What it says of each broken vector. Streams that lie elsewhere are mostly noticed by their length.
REFUSALS = {
    "wrong checksum": ("flipped_byte", "index", "trailing_byte", "truncated", "two_files"),
    "wrong index": ("kinds_6", "kinds_7", "levels"),
    "not an .sdt file of version 1": ("version",),
    "unknown": ("prior", "profile"),
    "unknown or disordered chunk": ("required_chunk",),
    "chunks announced, but none, or the reverse": ("behind",),
    "too large": ("vast",),
    "a damaged segment": ("check",),
    "another alignment": ("alignment", "palette_of_tiny", "swapped_tiles", "too_many_tiles"),
    "more passes than there are": ("passes",),
    "a last pass of zeros": ("zeros",),
    "a stream does not end with its symbols": ("left_over", "short_payload"),
    "a level does not end with its last pass": ("level_early", "level_late"),
    "zero byte at the start of a stream": ("residual_zero_byte", "residual_zero_word"),
    "a residual of step 0": ("residual_step",),
    "a residual does not end with its symbols": (
        *("residual_cut", "residual_extent", "residual_last_tile", "residual_left_over", "residual_short"),
    ),
    "not a WebP file of a single VP8L chunk": ("overlay_extended", "overlay_lossy", "overlay_png"),
    "another length than a WebP file says": ("overlay_behind", "overlay_chunk", "overlay_last_tile"),
    "a damaged WebP file": ("overlay_cut",),
    "an overlay that is neither there nor not": ("overlay_half",),
    "another picture than the tile has": ("overlay_size",),
}
REFUSAL_OF = {f"x_{name}": message for message, names in REFUSALS.items() for name in names}


@pytest.mark.parametrize("case", [case for case in CASES if case.name.startswith("x_")], ids=lambda case: case.name)
def test_refused(case: Path) -> None:
    with pytest.raises(ValueError, match=f"^{REFUSAL_OF[case.name]}$"):
        decode((case / "input.sdt").read_bytes(), model_of(case))
