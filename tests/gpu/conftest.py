"""A GPU, where there is one; where there is none, and for no other reason, its tests are skipped."""

import numpy as np
import pytest

from sdtrt.engine.networks.backends.gpu import architecture
from sdtrt.errors import DeviceError
from sdtrt.kernels.device import CudaDevice, DeviceArray


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.gpu)


class OnDevice:
    """Arrays there and back; outputs are poisoned first."""

    def __init__(self, device: CudaDevice) -> None:
        self.device, self.stream = device, device.stream
        self._kept: list[np.ndarray | DeviceArray] = []  # launches hold addresses alone

    def array(self, values: np.ndarray) -> DeviceArray:
        staging = self.device.pinned(values.shape, values.dtype)
        staging[...] = values
        array = self.device.empty(values.shape, values.dtype)
        self._kept += [staging, array]
        self.device.upload(array, staging, self.stream)
        return array

    def poisoned(self, shape: tuple[int, ...], dtype: type) -> DeviceArray:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.array(np.full(nbytes, 0xA5, np.uint8).view(dtype).reshape(shape))

    def values(self, array: DeviceArray) -> np.ndarray:
        staging = self.device.pinned(array.shape, array.dtype)
        self.device.download(staging, array, self.stream)
        self.device.record_event(self.stream).sync()
        return staging.copy()


@pytest.fixture(scope="session")
def device() -> CudaDevice:
    try:
        architecture()
    except DeviceError as error:
        pytest.skip(f"no device: {error}")
    return CudaDevice()


@pytest.fixture
def gpu(device: CudaDevice) -> OnDevice:
    device.set_current()
    return OnDevice(device)
