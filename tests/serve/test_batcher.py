"""Micro-batching: requests with equal parameters run as one batch on a GPU."""

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
from sdtrt.engine.networks.tiling import TiledRunner
from sdtrt.serve.batcher import MicroBatcher
from sdtrt.serve.codec_calls import run_batch


def run_batcher(calls: Sequence[tuple[str, int]], wait: float = 0.01, max_batch: int = 3) -> tuple[list, list]:
    """Submit (key, number) pairs; return the batches, and the results: ten times the number, an error if negative."""
    batches = []

    async def run() -> list[object]:
        async def work(key: str, items: list[int]) -> list[int | Exception]:
            batches.append((key, items))
            if key == "broken":
                raise RuntimeError("all of them")
            return [10 * item if item >= 0 else ValueError(str(item)) for item in items]

        batcher = MicroBatcher(lambda *batch: asyncio.ensure_future(work(*batch)), wait, max_batch)
        return await asyncio.gather(*(batcher.submit(key, item) for key, item in calls), return_exceptions=True)

    return batches, asyncio.run(run())


def test_micro_batcher_separates_keys() -> None:
    batches, results = run_batcher([("a", 1), ("b", 2), ("a", 3)])
    assert sorted(batches) == [("a", [1, 3]), ("b", [2])]
    assert results == [10, 20, 30]


def test_micro_batcher_limits_the_batch_size() -> None:
    batches, results = run_batcher([("a", n) for n in range(7)])
    assert [len(items) for _, items in batches] == [3, 3, 1]
    assert results == [10 * n for n in range(7)]


def test_micro_batcher_error_of_an_item_stays_with_the_item() -> None:
    _, results = run_batcher([("a", 1), ("a", -2), ("a", 3)])
    assert (results[0], str(results[1]), results[2]) == (10, "-2", 30)


def test_micro_batcher_error_of_a_batch_reaches_all_items() -> None:
    _, results = run_batcher([("broken", 1), ("broken", 2)])
    assert [str(error) for error in results] == ["all of them"] * 2


def test_micro_batcher_cancelled_item_is_left_out() -> None:
    batches = []

    async def run() -> int:
        async def work(_: str, items: list[int]) -> list[int]:
            batches.append(items)
            return items

        batcher = MicroBatcher(lambda *batch: asyncio.ensure_future(work(*batch)), 0.01, 3)
        batcher.submit("a", 1).cancel()
        return await batcher.submit("a", 2)

    assert asyncio.run(run()) == 2
    assert batches == [[2]]


def test_run_batch_failing_batch_runs_one_by_one() -> None:
    def as_batch(items: Sequence[int]) -> list[int]:
        return [1 // item for item in items]

    assert run_batch([1, -1], as_batch, str) == [1, -1]
    assert run_batch([1, 0], as_batch, str) == ["1", "0"]
    assert run_batch([1, 0], None, str) == ["1", "0"]
    assert run_batch([1], as_batch, str) == ["1"]


@pytest.fixture
def gpu_codec(host: Any) -> EngineCodec:
    """The built-in model on the emulated device, which records the batch size of each call."""
    codec = EngineCodec("tiny")
    codec.pipeline = GpuPipeline(EmulatedDevice(host), EmulatedBackend(), TiledRunner.of(codec.bundle))
    for name in ("analyse", "synthesise"):
        setattr(codec.pipeline, name, recording(codec.pipeline, name))
    return codec


def recording(pipeline: Any, name: str) -> Any:
    pipeline.calls = []
    call = getattr(pipeline, name)

    def record(images: Sequence[Any]) -> Any:
        pipeline.calls.append((name, len(images)))
        return call(images)

    return record


def test_service_on_a_gpu_batches_requests(gpu_codec: EngineCodec, serving: Any, photo: Any) -> None:
    client, codec = serving(codec=gpu_codec, batch_wait=5), sdtrt.Codec.open(precision="fp32")
    pixels = photo(40, 24)
    files = [codec.encode(pixels, quality=quality) for quality in (20, 30, 40)]
    while client.get("/readyz").status_code != 200:
        pass
    gpu_codec.pipeline.calls.clear()
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(client.post, "/decode", content=data) for data in (*files, files[0][:-1])]
        assert sorted(answer.result().status_code for answer in answers) == [200, 200, 200, 422]
    for data, answer in zip(files, answers, strict=False):
        decoded = np.asarray(Image.open(io.BytesIO(answer.result().content)))
        np.testing.assert_array_equal(decoded, np.asarray(codec.decode(data)))
    gpu_codec.pipeline.calls.clear()
    max_batch = gpu_codec.pipeline.largest_batch
    with ThreadPoolExecutor(max_batch) as pool:
        encoded = [
            pool.submit(client.post, "/encode?quality=30&layers=1", content=png(pixels)) for _ in range(max_batch)
        ]
        assert {answer.result().content for answer in encoded} == {codec.encode(pixels, quality=30, layers=1)}
    assert gpu_codec.pipeline.calls == [("analyse", max_batch)]
    assert max_batch > 1


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
