"""What `import sdtrt` offers is what `__all__` says, and no more."""

import inspect
import subprocess
import sys

import pytest

import sdtrt

PROMISED = {
    "BundleError",
    "Codec",
    "DeviceError",
    "FormatError",
    "LatentsWarning",
    "LimitError",
    "SdtrtError",
    "__version__",
    "decode",
    "decode_latents",
    "encode",
    "encode_latents",
    "info",
    "verify",
}


def test_all_is_the_public_names_in_order() -> None:
    names = [name for name in dir(sdtrt) if not name.startswith("_")]
    public = [name for name in names if not inspect.ismodule(getattr(sdtrt, name))]
    assert sorted([*public, "__version__"]) == sdtrt.__all__
    assert set(sdtrt.__all__) <= {*vars(sdtrt)}  # after their first use


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'sdtrt' has no attribute 'nonesuch'"):
        sdtrt.nonesuch  # type: ignore[attr-defined]  # noqa: B018


def test_submodules_are_attributes() -> None:
    code = "import sdtrt; sdtrt.errors.SdtrtError, sdtrt.images, sdtrt.codec.Codec, sdtrt.engine"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_promised_names_are_there() -> None:
    assert PROMISED.issubset(sdtrt.__all__)


def test_errors_have_one_root() -> None:
    for name in PROMISED:
        if name.endswith("Error"):
            assert issubclass(getattr(sdtrt, name), sdtrt.SdtrtError)
