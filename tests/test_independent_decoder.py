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


@pytest.mark.parametrize("case", [case for case in CASES if case.name.startswith("x_")], ids=lambda case: case.name)
def test_refused(case: Path) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode((case / "input.sdt").read_bytes(), model_of(case))
