"""What `import sdtrt` offers is what `__all__` says, and no more."""

import inspect

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
    public = [name for name, value in vars(sdtrt).items() if not (name.startswith("_") or inspect.ismodule(value))]
    assert sorted([*public, "__version__"]) == sdtrt.__all__


def test_promised_names_are_there() -> None:
    assert PROMISED.issubset(sdtrt.__all__)


def test_errors_have_one_root() -> None:
    for name in PROMISED:
        if name.endswith("Error"):
            assert issubclass(getattr(sdtrt, name), sdtrt.SdtrtError)
