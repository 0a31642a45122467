"""Requests of one kind go through the networks of a device together."""

import asyncio
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from emulated import EmulatedBackend, EmulatedDevice
from PIL import Image

import sdtrt
from sdtrt.engine.codec import EngineCodec
from sdtrt.engine.networks.gpu_pipeline import GpuPipeline
from sdtrt.engine.networks.tiled import TiledRunner
from sdtrt.serve.batcher import MicroBatcher
from sdtrt.serve.codec_calls import run_batch


def gathered(calls: Sequence[tuple[str, int]], wait: float = 0.01, largest: int = 3) -> tuple[list, list]:
    """Return what was submitted, and what came of each call: ten times its number, or an error for a negative one."""
    submitted = []

    async def run() -> list[object]:
        async def work(kind: str, items: list[int]) -> list[int | Exception]:
            submitted.append((kind, items))
            if kind == "broken":
                raise RuntimeError("all of them")
            return [10 * item if item >= 0 else ValueError(str(item)) for item in items]

        together = MicroBatcher(lambda *some: asyncio.ensure_future(work(*some)), wait, largest)
        return await asyncio.gather(*(together.call(kind, item) for kind, item in calls), return_exceptions=True)

    return submitted, asyncio.run(run())


def test_kinds_are_kept_apart() -> None:
    submitted, found = gathered([("a", 1), ("b", 2), ("a", 3)])
    assert sorted(submitted) == [("a", [1, 3]), ("b", [2])]
    assert found == [10, 20, 30]


def test_no_more_than_the_largest() -> None:
    submitted, found = gathered([("a", n) for n in range(7)])
    assert [len(items) for _, items in submitted] == [3, 3, 1]
    assert found == [10 * n for n in range(7)]


def test_an_error_is_of_one_alone() -> None:
    _, found = gathered([("a", 1), ("a", -2), ("a", 3)])
    assert (found[0], str(found[1]), found[2]) == (10, "-2", 30)


def test_a_failure_is_of_all() -> None:
    _, found = gathered([("broken", 1), ("broken", 2)])
    assert [str(error) for error in found] == ["all of them"] * 2


def test_who_is_gone_is_left_out() -> None:
    submitted = []

    async def run() -> int:
        async def work(_: str, items: list[int]) -> list[int]:
            submitted.append(items)
            return items

        together = MicroBatcher(lambda *some: asyncio.ensure_future(work(*some)), 0.01, 3)
        together.call("a", 1).cancel()
        return await together.call("a", 2)

    assert asyncio.run(run()) == 2
    assert submitted == [[2]]


def test_one_by_one_where_not_together() -> None:
    def together(items: Sequence[int]) -> list[int]:
        return [1 // item for item in items]

    assert run_batch([1, -1], together, str) == [1, -1]
    assert run_batch([1, 0], together, str) == ["1", "0"]
    assert run_batch([1, 0], None, str) == ["1", "0"]
    assert run_batch([1], together, str) == ["1"]


@pytest.fixture
def on_a_device(host: Any) -> EngineCodec:
    """The built-in model on the emulated device, which notes how many pictures it is given at once."""
    codec = EngineCodec("tiny")
    codec.pipeline = GpuPipeline(EmulatedDevice(host), EmulatedBackend(), TiledRunner.of(codec.bundle))
    for name in ("analyse", "synthesise"):
        setattr(codec.pipeline, name, noting(codec.pipeline, name))
    return codec


def noting(pipeline: Any, name: str) -> Any:
    pipeline.noted = []
    call = getattr(pipeline, name)

    def noted(pictures: Sequence[Any]) -> Any:
        pipeline.noted.append((name, len(pictures)))
        return call(pictures)

    return noted


def test_on_a_device(on_a_device: EngineCodec, serving: Any, photo: Any) -> None:
    client, codec = serving(codec=on_a_device, batch_wait=5), sdtrt.Codec.open(precision="fp32")
    pixels = photo(40, 24)
    files = [codec.encode(pixels, quality=quality) for quality in (20, 30, 40)]
    while client.get("/readyz").status_code != 200:
        pass
    on_a_device.pipeline.noted.clear()
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(client.post, "/decode", content=data) for data in (*files, files[0][:-1])]
        assert sorted(answer.result().status_code for answer in answers) == [200, 200, 200, 422]
    for data, answer in zip(files, answers, strict=False):
        decoded = np.asarray(Image.open(io.BytesIO(answer.result().content)))
        np.testing.assert_array_equal(decoded, np.asarray(codec.decode(data)))
    on_a_device.pipeline.noted.clear()
    several = on_a_device.pipeline.largest_batch
    with ThreadPoolExecutor(several) as pool:
        encoded = [pool.submit(client.post, "/encode?quality=30&layers=1", content=png(pixels)) for _ in range(several)]
        assert {answer.result().content for answer in encoded} == {codec.encode(pixels, quality=30, layers=1)}
    assert on_a_device.pipeline.noted == [("analyse", several)]
    assert several > 1


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
