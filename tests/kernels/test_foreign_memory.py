"""Arrays and streams of other libraries. The view of cuda-core is faked, so that no GPU is needed."""

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from sdtrt.kernels import device


class Foreign:
    """An object with the protocols of a device array and a stream."""

    __cuda_array_interface__: ClassVar = {"version": 3}

    def __init__(self, handle: int = 0) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The view of an array by cuda-core; it is suitable unless a test changes it."""
    view = SimpleNamespace(
        ptr=4096, shape=(4, 6, 3), strides=None, dtype=np.uint8, readonly=False, is_device_accessible=True
    )
    views = SimpleNamespace(from_any_interface=lambda array, stream_ptr: view)
    streams = SimpleNamespace(from_handle=lambda handle: f"stream {handle}")
    core = SimpleNamespace(utils=SimpleNamespace(StridedMemoryView=views), Stream=streams)
    monkeypatch.setattr(device, "import_cuda", lambda: core)
    return view


def test_array_of_device_array_is_the_same_memory(view: SimpleNamespace) -> None:
    array = device.array_of(Foreign())
    assert (array.pointer, array.shape, array.dtype) == (4096, (4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"readonly": True}, ValueError, "read-only device array.*expected a writable one"),
        ({"strides": (36, 3, 1)}, ValueError, "expected a C-contiguous one"),
        ({"is_device_accessible": False}, TypeError, "in host memory"),
    ],
)
def test_array_of_unsuitable_array_raises(
    view: SimpleNamespace, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    vars(view).update(changes)
    with pytest.raises(kind, match=message):
        device.array_of(Foreign())


@pytest.mark.parametrize("array", [None, 3, "array", [1, 2]])
def test_array_of_another_type_raises(array: object) -> None:
    with pytest.raises(
        TypeError, match=r"array is .*, expected a device array with __cuda_array_interface__ or DLPack"
    ):
        device.array_of(array)


def test_stream_of_handle_or_object_is_the_stream(view: SimpleNamespace) -> None:
    assert device.stream_of(640) == device.stream_of(Foreign(640)) == "stream 640"


@pytest.mark.parametrize("handle", [0, 1])
@pytest.mark.parametrize("kind", [int, Foreign])
def test_stream_of_default_stream_raises(view: SimpleNamespace, kind: Any, handle: int) -> None:
    with pytest.raises(ValueError, match="default stream"):
        device.stream_of(kind(handle))


@pytest.mark.parametrize("stream", [None, True, 1.0, "stream"])
def test_stream_of_another_type_raises(stream: object) -> None:
    with pytest.raises(TypeError, match=r"stream is .*, expected an object with __cuda_stream__"):
        device.stream_of(stream)


@pytest.mark.parametrize("handle", [-1, 1 << 64, 10**5000], ids=["negative", "large", "vast"])
@pytest.mark.parametrize("kind", [int, Foreign])
def test_stream_of_handle_out_of_range_raises(view: SimpleNamespace, kind: Any, handle: int) -> None:
    with pytest.raises(ValueError, match="stream is outside of the range of handles"):
        device.stream_of(kind(handle))


@pytest.mark.parametrize("given", [None, 5, (0,), (0, "x"), (0, None)])
def test_stream_of_malformed_protocol_raises_type_error(view: SimpleNamespace, given: Any) -> None:
    with pytest.raises(TypeError, match="__cuda_stream__ does not return"):
        device.stream_of(SimpleNamespace(__cuda_stream__=lambda: given))
