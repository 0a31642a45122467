"""Latents as users have them: arrays and tensors, latent spaces by name, shapes and values that are wrong."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sdtrt
from sdtrt.engine.format.latent_space import PROFILE_NAMES
from sdtrt.engine.format.profile import shipped_profile
from sdtrt.export.checkpoints.spaces import name_in_files

SPACES = sorted(shipped_profile(identifier).latent_space for identifier in PROFILE_NAMES)


def latents_of(space: str, height: int = 6, width: int = 9) -> np.ndarray:
    """Return latents of a shipped space, float32 (C, h, w), whose values bfloat16 holds exactly."""
    identifier = next(n for n in PROFILE_NAMES if shipped_profile(n).latent_space == space)
    profile = shipped_profile(identifier)
    rng = np.random.default_rng(7)
    values = profile.mean[:, None, None] + profile.std[:, None, None] * rng.normal(
        size=(profile.channels, height, width)
    )
    return (values.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


SD1 = latents_of("sd1")


class WithArray:
    """An array of a library that NumPy does not know."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self._values if dtype is None else self._values.astype(dtype)


class WithDlpack:
    """An array that can be had by DLPack alone."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._values.__dlpack_device__()


class OnDevice:
    """An array in device memory, as CuPy's: no `__array__`, but `get`."""

    __cuda_array_interface__: Any = None

    def get(self) -> np.ndarray:
        return SD1


def bfloat16(values: np.ndarray) -> np.ndarray:
    return values.astype(pytest.importorskip("ml_dtypes").bfloat16)


def tensor(values: np.ndarray, **options: Any) -> Any:
    return pytest.importorskip("torch").tensor(values, **options)


def tensor_on_a_device() -> Any:
    """Return a tensor whose memory NumPy cannot see before `cpu` has copied it."""
    torch = pytest.importorskip("torch")

    class TensorOnDevice(torch.Tensor):  # type: ignore[misc, name-defined]
        def cpu(self) -> Any:
            return self.as_subclass(torch.Tensor)

        def numpy(self) -> Any:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")

        def __array__(self, *_: Any) -> Any:
            return self.numpy()

    return tensor(SD1).as_subclass(TensorOnDevice)


ARRAYS: dict[str, Callable[[], Any]] = {
    "float64": lambda: SD1.astype(np.float64),
    "big endian": lambda: SD1.astype(">f4"),
    "bfloat16": lambda: bfloat16(SD1),
    "batch of one": lambda: SD1[None],
    "not contiguous": lambda: np.asfortranarray(SD1),
    "read-only": lambda: np.broadcast_to(SD1, SD1.shape),
    "__array__": lambda: WithArray(bfloat16(SD1)),
    "DLPack": lambda: WithDlpack(SD1.copy()),
    "device": OnDevice,
    "tensor": lambda: tensor(SD1),
    "tensor float64": lambda: tensor(SD1).double(),
    "tensor bfloat16": lambda: tensor(SD1).bfloat16(),
    "tensor of a batch": lambda: tensor(SD1)[None],
    "tensor with gradient": lambda: tensor(SD1, requires_grad=True) * 1,
    "parameter": lambda: pytest.importorskip("torch").nn.Parameter(tensor(SD1)),
    "tensor not contiguous": lambda: tensor(SD1.transpose(1, 2, 0).copy()).permute(2, 0, 1),
    "tensor with a pending negation": lambda: tensor(SD1 - 1j * SD1).conj().imag,
    "tensor on a device": tensor_on_a_device,
}


@pytest.mark.parametrize("name", ARRAYS)
def test_encode_latents_of_any_library_gives_the_same_file(name: str) -> None:
    assert sdtrt.encode_latents(ARRAYS[name](), latent_space="sd1") == sdtrt.encode_latents(SD1, latent_space="sd1")


@pytest.mark.parametrize("make", [np.asarray, tensor])
def test_encode_latents_of_float16_rounds_no_further(make: Callable[[np.ndarray], Any]) -> None:
    half = SD1.astype(np.float16)
    expected = sdtrt.encode_latents(half.astype(np.float32), latent_space="sd1")
    assert sdtrt.encode_latents(make(half), latent_space="sd1") == expected


def test_encode_latents_leaves_the_callers_array_alone() -> None:
    array = SD1.copy()
    sdtrt.encode_latents(array, latent_space="sd1")
    np.testing.assert_array_equal(array, SD1)


def with_value(value: float) -> np.ndarray:
    array = SD1.astype(np.float64)
    array[2, 3, 4] = value
    return array


WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "batch of two": (lambda: np.stack([SD1, SD1]), ValueError, r"\(2, 4, 6, 9\).*expected \(4, .*batch of 2: encode"),
    "channels last": (lambda: SD1.transpose(1, 2, 0), ValueError, r"channels are last: pass np\.moveaxis"),
    "batch with channels last": (lambda: SD1.transpose(1, 2, 0)[None], ValueError, "channels are last"),
    "video": (lambda: SD1[None, :, None], ValueError, "one frame"),
    "mean and variance": (lambda: np.concatenate([SD1, SD1]), ValueError, r"pass latents\[:4\]"),
    "other channels": (lambda: np.concatenate([SD1] * 4), ValueError, "16 channels are of another latent space"),
    "plane": (lambda: SD1[0], ValueError, r"\(6, 9\), expected \(4, height, width\)"),
    "one number": (lambda: np.float32(1), ValueError, r"shape \(\), expected"),
    "no rows": (lambda: SD1[:, :0], ValueError, "empty"),
    "integers": (lambda: SD1.astype(np.int8), ValueError, "dtype int8, expected a floating-point dtype.*dequantize"),
    "tensor of integers": (lambda: tensor(SD1).long(), ValueError, "dtype int64, expected a floating"),
    "complex": (lambda: SD1.astype(complex), ValueError, "dtype complex128, expected a floating"),
    "objects": (lambda: SD1.astype(object), ValueError, "dtype object, expected a floating"),
    "NaN": (lambda: with_value(np.nan), ValueError, r"1 values that are not finite.*nan.*\(2, 3, 4\).*encode in"),
    "infinite": (lambda: with_value(-np.inf), ValueError, "not finite"),
    "beyond float32": (lambda: with_value(1e39), ValueError, r"not finite float32 numbers, the first, 1e\+39"),
    "infinite tensor": (lambda: tensor(with_value(np.inf)).half(), ValueError, "not finite"),
    "masked": (lambda: np.ma.masked_less(SD1, 0), ValueError, "masked values.*filled"),
    "sparse tensor": (lambda: tensor(SD1).to_sparse(), ValueError, "cannot be converted to a NumPy array.*dense"),
    "meta tensor": (lambda: tensor(SD1).to("meta"), ValueError, "cannot be converted to a NumPy array"),
    "list": (SD1.tolist, TypeError, r"are a list, expected a NumPy array.*np\.asarray"),
    "dictionary": (lambda: {"samples": SD1}, TypeError, "are a dict.*entries: samples"),
    "nothing": (lambda: None, TypeError, "NoneType"),
}


@pytest.mark.parametrize("name", WRONG)
def test_encode_latents_of_unfit_values_says_what_is_wrong(name: str) -> None:
    make, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        sdtrt.encode_latents(make(), latent_space="sd1")


def test_encode_latents_of_a_diffusers_output_names_the_mean() -> None:
    class AutoencoderKLOutput:
        latent_dist = None

    with pytest.raises(TypeError, match=r"AutoencoderKLOutput, .*pass \.latent_dist\.mean"):
        sdtrt.encode_latents(AutoencoderKLOutput(), latent_space="sd1")


@pytest.mark.parametrize("space", SPACES)
def test_encode_latents_for_a_space_by_name_comes_back(space: str) -> None:
    latents = latents_of(space)
    data = sdtrt.encode_latents(latents, latent_space=space, quality=90)
    about = sdtrt.info(data)
    assert (about.latent_space, about.width, about.height) == (space, 72, 48)
    back = sdtrt.decode_latents(data)
    assert (back.dtype, back.shape) == (np.float32, latents.shape)
    assert np.square(back - latents).mean() < 0.1 * latents.var()


def test_encode_latents_gives_the_file_of_the_codec(codec: sdtrt.Codec) -> None:
    latents = latents_of("tiny")
    options: dict[str, Any] = {"quality": 70, "effort": 2, "width": 70, "height": 41}
    data = codec.encode_latents(latents, **options)
    assert data == sdtrt.encode_latents(latents, latent_space="tiny", **options)
    assert codec.decode(data).size == (70, 41)


def test_encode_latents_takes_sizes_and_methods() -> None:
    assert len(sdtrt.encode_latents(SD1, latent_space="sd1", max_bytes=100)) <= 100
    assert len(sdtrt.encode_latents(SD1, latent_space="sd1", bpp=0.3)) <= 0.3 * 48 * 72 / 8
    assert sdtrt.info(sdtrt.encode_latents(SD1, latent_space="sd1", method="palette")).method == "palette"
    with pytest.raises(ValueError, match="one of them only"):
        sdtrt.encode_latents(SD1, latent_space="sd1", max_bytes=100, quality=3)


@pytest.mark.parametrize(
    ("size", "kind", "message"),
    [
        ({"width": 64}, ValueError, "width 64 for latents of 9 columns, expected 65 to 72 pixels"),
        ({"height": 49}, ValueError, "height 49 for latents of 6 rows, expected 41 to 48 pixels"),
        ({"width": 70.0}, TypeError, r"width is 70\.0 \(float\)"),
        ({"width": True}, TypeError, r"width is True \(bool\)"),
    ],
)
def test_encode_latents_of_another_size_is_refused(size: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        sdtrt.encode_latents(SD1, latent_space="sd1", **size)


@pytest.mark.parametrize("pixels", [215, 3455])
def test_encode_latents_beyond_limits_is_refused(pixels: int) -> None:
    with pytest.raises(sdtrt.LimitError, match=f"the limit is {pixels}"):
        sdtrt.encode_latents(SD1, latent_space="sd1", limits=sdtrt.Limits(max_pixels=pixels))
    assert sdtrt.encode_latents(SD1, latent_space="sd1", limits=sdtrt.Limits(max_pixels=3456))


def test_encode_latents_for_an_unknown_space_names_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SDTRT_MODELS", raising=False)
    with pytest.raises(sdtrt.BundleError, match=r"'flux1'; there are: sd1, tiny\. .*bundle"):
        sdtrt.encode_latents(SD1, latent_space="flux1")
    with pytest.raises(TypeError, match="int, expected the name"):
        sdtrt.encode_latents(SD1, latent_space=1)  # type: ignore[arg-type]
    for name in ("SD1", "sd1 ", "", "../../sd1", "/", "x-", "x-0123abcd", "a\0b", "\ud800", "a" * 5000):
        with pytest.raises(sdtrt.BundleError, match="there are: sd1, tiny") as raised:
            sdtrt.encode_latents(SD1, latent_space=name)
        assert len(str(raised.value)) < 300


BLOCKED = """
import sys
import numpy as np
for name in ("onnxruntime", "openvino", "torch", "tensorrt", "ml_dtypes", "safetensors", "onnx"):
    sys.modules[name] = None  # an import of it fails
import sdtrt
from sdtrt.cli import main
latents = np.random.default_rng(0).normal(size=(4, 5, 7)).astype(np.float32)
data = sdtrt.encode_latents(latents, latent_space="sd1")
assert sdtrt.decode_latents(data).shape == latents.shape
np.savez("a.npz", latents=latents)
assert main(["encode", "--from-latents", "--latent-space", "sd1", "a.npz"]) == 0
assert main(["decode", "--to-latents", "a.sdt", "-o", "b.safetensors"]) == 0
assert sdtrt.encode_latents("b.safetensors", latent_space="sd1")
np.save("t.npy", np.zeros((40, 2, 2), np.float32))
assert main(["encode", "--from-latents", "t.npy"]) == 0  # the model's manifest says enough
assert open("a.sdt", "rb").read() == data
"""


def test_latents_need_no_networks_and_no_libraries_for_them(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKED], cwd=tmp_path, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def manifest_of(space: str, channels: int) -> str:
    """Return the manifest of a bundle for a known space; none of its files is there."""
    numbers = {name: [value] * channels for name, value in (("mean", 0), ("spread", 1), ("weight", 1), ("offset", 0))}
    name = name_in_files(space)
    profile = {"latent_space": name, "channels": channels, "downscale": 8, "step_codes": [2300, 1300], "prior": 0}
    fields = {"schema": 1, "name": "mine", "latent_space": name, "pixel_range": [-1, 1], "decoder_takes_step": False}
    return json.dumps(fields | {"files": {}, "profile": profile | numbers})


def test_encode_latents_for_the_space_of_a_bundle_needs_its_manifest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, text in (("broken", "{"), ("mine", manifest_of("flux1", 16))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "bundle.json").write_text(text)
    monkeypatch.setenv("SDTRT_MODELS", str(tmp_path))
    latents = np.random.default_rng(1).normal(size=(16, 8, 8))
    for name in ("flux1", name_in_files("flux1")):
        data = sdtrt.encode_latents(latents, latent_space=name)
        assert sdtrt.info(data).latent_space == name_in_files("flux1")
        assert sdtrt.decode_latents(data).shape == (16, 8, 8)
    with pytest.raises(sdtrt.BundleError, match="there are: flux1, sd1, tiny"):
        sdtrt.encode_latents(latents, latent_space="sdxl")
