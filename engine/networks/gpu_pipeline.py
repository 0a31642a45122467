"""Images to latents and back on a GPU: for each shape, one CUDA graph has the kernels and the networks.

Only pixels and symbols cross the bus, through page-locked staging memory; an encode downloads latents instead of
symbols. The kernels over pixels depend on the exact size of an image, so they are queued outside the graph. Everything
for one shape is an execution plan. The pipeline holds the plans that were used last.

The tiles of a large image are decoded one by one and assembled on the host, so device memory is bounded.
"""

import functools
import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from sdtrt._arrays import AnyArray, F32Array, U8Array
from sdtrt.engine.coding.quantized_latents import FloatLatents, OffsetKind, QuantizedLatents
from sdtrt.engine.format.layout import Span
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.networks.backends import DeviceNetworkLoader
from sdtrt.engine.networks.decode_request import DecodeRequest
from sdtrt.engine.networks.gpu_stages import DenoiserStage, LayerStage
from sdtrt.engine.networks.tiling import ReadRows, TiledRunner, rows_of
from sdtrt.errors import BundleError
from sdtrt.kernels import launches
from sdtrt.kernels.device import Device, DeviceArray, Graph, Stream

MAX_PLANS = 8
MAX_AREA = 1 << 22  # pixels of a batch: libraries count the elements of planes, up to 256 for each pixel, in 31 bits

Item = TypeVar("Item")


@dataclass(slots=True, eq=False)
class ExecutionPlan:
    """Memory and work for one shape.

    Attributes:
        staging: page-locked arrays on the host, by name.
        arrays: arrays on the device, by name.
        queue: queues the work on a stream.
        capturable: whether a graph can record the work.
        last_use: an event; staging memory may be written after it.
    """

    staging: dict[str, AnyArray]
    arrays: dict[str, DeviceArray]
    queue: Callable[[Stream], None]
    capturable: bool
    denoiser: DenoiserStage | None = None
    graph: Graph | None = None
    last_use: Any = None

    def fill(self, images: Sequence[DecodeRequest]) -> None:
        """Write the latents of images into staging memory, as soon as the device no longer reads it."""
        if self.last_use is not None:
            self.last_use.sync()
        write_staging(self.staging, images)
        if self.denoiser is not None:
            self.denoiser.fill([image.trajectory for image in images if image.trajectory])

    def run(self, device: Device) -> None:
        """Queue the work on the stream of a device.

        The first run is not a graph, since libraries initialise themselves in it. Later runs are.
        """
        if self.graph is not None:
            self.graph.launch(device.stream)
            return
        self.queue(device.stream)
        if self.capturable:
            device.record_event(device.stream).sync()
            self.graph = device.capture(self.queue)


class GpuPipeline:
    """The networks of a bundle on a GPU; see `engine.networks.pipeline.Pipeline`. Calls run one after the other."""

    def __init__(self, device: Device, loader: DeviceNetworkLoader, tiled: TiledRunner) -> None:
        bundle = tiled.bundle
        self.name = f"{loader.name} on {device.name}"
        self._bundle, self._device, self._profile, self._tiled = bundle, device, bundle.latent_profile, tiled
        self._load = functools.cache(lambda network: loader.load(bundle, network))
        self._encoder, self._decoder = self._load("encoder"), self._load("decoder")
        self.largest_batch = min(self._encoder.largest_batch, self._decoder.largest_batch)
        self._low, self._high = bundle.pixel_range
        self._plans: OrderedDict[tuple[Any, ...], ExecutionPlan] = OrderedDict()
        self._layers = LayerStage(device)
        self._lock = Lock()
        weakref.finalize(self, drain, device)  # `decode_into` does not wait, and its memory is freed with the pipeline

    def for_batches(self) -> tuple["GpuPipeline", None]:
        return self, None

    def analyse(self, pixels: Sequence[U8Array]) -> list[F32Array]:
        height, width = pixels[0].shape[:2]
        if self._tiled.fits_one_tile(*self._profile.grid(width, height)[1:]):
            return [latents for batch in split_batch(pixels, width * height) for latents in self._encode(batch)]
        return [np.concatenate([*self.analyse_tiled(rows_of(image), height, width)], axis=1) for image in pixels]

    def analyse_tiled(self, rows: ReadRows, height: int, width: int) -> Iterator[F32Array]:
        return self._tiled.analyse_tiled(rows, height, width, lambda tile: self._encode([tile])[0])

    def _encode(self, pixels: Sequence[U8Array]) -> list[F32Array]:
        count, (height, width) = len(pixels), pixels[0].shape[:2]
        sizes = self._sizes(count, height, width)
        device, stream = self._device, self._device.stream
        with self._exclusive_device():
            plan = self._plan(("encode", count, *sizes.padded), lambda: self._make_encode_plan(count, *sizes.padded))
            rgb = plan.staging["rgb"][: count * sizes.image_stride]
            np.stack(pixels, out=rgb.reshape(count, height, width, 3))
            device.upload(plan.arrays["rgb"], rgb, stream)
            device.launch(self._to_planes(plan, sizes), stream)
            plan.run(device)
            device.download(plan.staging["latents"], plan.arrays["latents"], stream)
            device.record_event(stream).sync()
            latents = plan.staging["latents"].astype(np.float32)
        self._check_finite(bool(np.isfinite(latents).all()), "encoder", "latents")
        return list(latents)

    def synthesise(self, images: Sequence[DecodeRequest]) -> list[U8Array]:
        if self._tiled.fits_one_tile(*images[0].latents.shape[1:]):
            area = self._profile.downscale**2 * math.prod(images[0].latents.shape[1:])
            return [pixels for batch in split_batch(images, area) for pixels in self._decode(batch)]
        spans = [((0, image.header.height), (0, image.header.width)) for image in images]
        return [
            np.concatenate([*self.synthesise_tiled(image, *both)]) for image, both in zip(images, spans, strict=True)
        ]

    def synthesise_tiled(self, image: DecodeRequest, rows: Span, columns: Span) -> Iterator[U8Array]:
        return self._tiled.synthesise_tiled(image, self._decode_planes, rows, columns)

    def _decode_planes(self, tile: DecodeRequest) -> F32Array:
        device, stream = self._device, self._device.stream
        with self._exclusive_device():
            plan = self._queue_decoder([tile])
            pixels = plan.arrays["pixels"]
            if "planes" not in plan.staging:
                plan.staging["planes"] = device.pinned(pixels.shape, pixels.dtype)
            device.download(plan.staging["planes"], pixels, stream)
            device.record_event(stream).sync()
            planes = plan.staging["planes"][0].astype(np.float32)
        self._check_finite(bool(np.isfinite(planes).all()), "decoder", "pixels")
        return planes

    def _decode(self, images: Sequence[DecodeRequest]) -> list[U8Array]:
        headers = [image.header for image in images]
        sides = max(h.height for h in headers), max(h.width for h in headers)
        sizes = self._sizes(len(headers), *sides, denoised=images[0].denoise_steps > 0)
        device, stream = self._device, self._device.stream
        with self._exclusive_device():
            plan = self._queue_decoder(images)
            rgb = plan.staging["rgb"][: sizes.count * sizes.image_stride]
            device.launch(self._to_pixels(plan, plan.arrays["rgb"], sizes), stream)
            device.download(rgb, plan.arrays["rgb"], stream)
            device.download(plan.staging["raised"], plan.arrays["flags"], stream)
            device.record_event(stream).sync()
            self._check_finite(plan.staging["raised"][0] == 0, "decoder", "pixels")
            padded = rgb.reshape(sizes.count, sizes.height, sizes.width, 3)
            return [pixels[: h.height, : h.width].copy() for pixels, h in zip(padded, headers, strict=True)]

    def synthesise_into(self, image: DecodeRequest, layers: LayerReader, array: Any, stream: Any) -> None:
        header = image.header
        target, foreign = self._device.array_of(array), self._device.stream_of(stream)
        expected = (header.height, header.width, 3)
        if target.shape != expected or target.dtype != np.uint8:
            raise ValueError(f"array of {target.dtype} {target.shape}, expected uint8 {expected}")
        sizes = self._sizes(1, header.height, header.width, denoised=image.denoise_steps > 0)
        tiles, ours = list(layers.tiles()), self._device.stream  # a damaged layer raises before anything is queued
        with self._exclusive_device():
            plan = self._queue_decoder([image])
            work = [self._to_pixels(plan, target, sizes), *self._layers.send(tiles, target)]
            self._device.wait(ours, foreign)
            try:
                for launch in work:
                    self._device.launch(launch, ours)
            finally:  # after an error, too, the owner's later work must come after the launches into the array
                self._device.wait(foreign, ours)

    @contextmanager
    def _exclusive_device(self) -> Iterator[None]:
        """Hold the device for one call. After an error, wait until the work of the call is done."""
        with self._lock:
            self._device.set_current()
            try:
                yield
            except BaseException:
                with suppress(Exception):  # the first error is more useful than an error that follows from it
                    self._device.record_event(self._device.stream).sync()
                raise

    def _queue_decoder(self, images: Sequence[DecodeRequest]) -> ExecutionPlan:
        """Queue denoiser and decoder for a batch, and return the plan whose `pixels` will hold the planes."""
        kind, steps, decoder = images[0].offset_kind, images[0].denoise_steps, images[0].decoder
        shape = (len(images), *images[0].latents.shape)
        key = (f"decode {kind}", steps, decoder, *shape)
        plan = self._plan(key, lambda: self._make_decode_plan(kind, steps, decoder, shape))
        plan.fill(images)
        plan.run(self._device)
        plan.last_use = self._device.record_event(self._device.stream)
        return plan

    def _plan(self, key: tuple[Any, ...], make: Callable[[], ExecutionPlan]) -> ExecutionPlan:
        if key not in self._plans:
            while len(self._plans) >= MAX_PLANS:
                self._device.record_event(self._device.stream).sync()  # the work of the oldest plan may still run
                self._plans.popitem(last=False)
            self._plans[key] = make()
        self._plans.move_to_end(key)
        return self._plans[key]

    def _make_encode_plan(self, count: int, height: int, width: int) -> ExecutionPlan:
        dtypes = self._encoder.dtypes
        rgb = (count * height * width * 3,), np.uint8
        latents = (count, *self._profile.grid(width, height)), dtypes["latents"]
        arrays = {
            "rgb": self._device.empty(*rgb),
            "pixels": self._device.empty((count, 3, height, width), dtypes["pixels"]),
            "latents": self._device.empty(*latents),
        }
        staging = {"rgb": self._device.pinned(*rgb), "latents": self._device.pinned(*latents)}
        run_encoder = self._encoder.bind({name: arrays[name] for name in ("pixels", "latents")})
        return ExecutionPlan(staging, arrays, run_encoder, self._encoder.capturable)

    def _make_decode_plan(
        self, kind: OffsetKind, steps: int, decoder_name: str, shape: tuple[int, ...]
    ) -> ExecutionPlan:
        device, decoder = self._device, self._load(decoder_name)
        dtypes = decoder.dtypes
        count, channels, *sides = shape
        height, width = (side * self._profile.downscale for side in sides)
        uploads = upload_specs(kind, shape, dtypes)
        rgb = (count * height * width * 3,), np.uint8
        arrays = {name: device.empty(*spec) for name, spec in uploads.items()}
        arrays.setdefault("latents", device.empty(shape, dtypes["latents"]))
        arrays["pixels"] = device.empty((count, 3, height, width), dtypes["pixels"])
        arrays["rgb"] = device.empty(*rgb)
        staging = {name: device.pinned(*spec) for name, spec in uploads.items()}
        staging["flags"][:] = 0
        staging |= {"rgb": device.pinned(*rgb), "raised": device.pinned((1,), np.uint32)}
        run_decoder = decoder.bind({name: arrays[name] for name in dtypes})
        denoiser = DenoiserStage(device, self._load("unet"), arrays["latents"], steps) if steps else None

        def queue(stream: Stream) -> None:
            for name in uploads:
                device.upload(arrays[name], staging[name], stream)
            if kind is not OffsetKind.NONE:
                device.launch(dequantize_launch(kind, arrays, (1, count * channels, *sides)), stream)
            if denoiser is not None:
                denoiser.queue(stream)
            run_decoder(stream)

        capturable = decoder.capturable and (denoiser is None or denoiser.capturable)
        return ExecutionPlan(staging, arrays, queue, capturable, denoiser)

    def _sizes(self, count: int, height: int, width: int, *, denoised: bool = False) -> launches.ImageBatch:
        """Return the sizes of a batch of RGB images without gaps. A UNet may need more padding than a decoder."""
        multiple = self._profile.downscale * (self._bundle.unet.multiple if denoised and self._bundle.unet else 1)
        return launches.ImageBatch(count, height, width, 3, width * 3, height * width * 3, pad_multiple=multiple)

    def _to_planes(self, plan: ExecutionPlan, sizes: launches.ImageBatch) -> launches.Launch:
        rgb, planes = plan.arrays["rgb"], plan.arrays["pixels"]
        return launches.pixels_to_planes(
            rgb.pointer, planes.pointer, images=sizes, dtype=planes.dtype, low=self._low, high=self._high
        )

    def _to_pixels(self, plan: ExecutionPlan, target: DeviceArray, sizes: launches.ImageBatch) -> launches.Launch:
        planes, flags = plan.arrays["pixels"], plan.arrays["flags"]
        return launches.planes_to_pixels(
            planes.pointer,
            target.pointer,
            flags.pointer,
            images=sizes,
            dtype=planes.dtype,
            low=self._low,
            high=self._high,
        )

    def _check_finite(self, finite: bool, network: str, tensor: str) -> None:
        if not finite:
            raise BundleError(f"the output {tensor} of {self._bundle.name}'s {network} is not finite")


def drain(device: Device) -> None:
    """Wait for all work on the stream of a device. A device that is lost has no work."""
    with suppress(Exception):  # errors of the driver have no common base
        device.set_current()
        device.record_event(device.stream).sync()


def upload_specs(
    kind: OffsetKind, shape: tuple[int, ...], dtypes: Mapping[str, np.dtype[Any]]
) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return the shape and the type of each array that is uploaded for a decode, by name.

    Arguments:
        kind: the `offset_kind` of the latents.
        shape: (N, C, h, w) of the latents.
        dtypes: the types of the decoder's inputs.
    """
    vector = (shape[0] * shape[1],), np.float32
    specs: dict[str, tuple[tuple[int, ...], Any]] = {"flags": ((1,), np.uint32)}
    specs["step"] = (shape[0],), dtypes.get("step", np.float32)
    if kind is OffsetKind.NONE:
        return specs | {"latents": (shape, dtypes["latents"])}
    offsets = (shape, np.int8) if kind is OffsetKind.PER_SYMBOL else vector
    return specs | {"symbols": (shape, np.int16), "mean": vector, "delta": vector, "recon_offsets": offsets}


def write_staging(staging: Mapping[str, AnyArray], images: Sequence[DecodeRequest]) -> None:
    """Write the arrays of `upload_specs` into staging memory, but for `flags`."""
    for n, image in enumerate(images):
        staging["step"][n] = image.header.quant_step
        latents = image.latents
        if isinstance(latents, FloatLatents):
            staging["latents"][n] = latents.latents
            continue
        assert isinstance(latents, QuantizedLatents)  # a crop of a tile
        staging["symbols"][n] = latents.symbols
        vectors = {"mean": latents.mean, "delta": latents.channel_steps, "recon_offsets": latents.recon_offsets}
        for name, values in vectors.items():
            staging[name].reshape(len(images), -1)[n] = values.ravel()


def dequantize_launch(kind: OffsetKind, arrays: Mapping[str, DeviceArray], shape: tuple[int, ...]) -> launches.Launch:
    """Return the launch that dequantizes a batch; the channels of all its images count as those of one image."""
    latents = arrays["latents"]
    symbols, mean, delta, offsets = (arrays[name].pointer for name in ("symbols", "mean", "delta", "recon_offsets"))
    argument = "recon_offsets" if kind is OffsetKind.PER_SYMBOL else "channel_offsets"
    return launches.dequantize(
        symbols, latents.pointer, mean, delta, shape=shape, dtype=latents.dtype, **{argument: offsets}
    )


def split_batch(images: Sequence[Item], area: int) -> Iterator[Sequence[Item]]:
    """Yield batches of images of `area` pixels each, with at most `MAX_AREA` pixels in a batch of several."""
    count = max(1, MAX_AREA // area)
    yield from (images[n : n + count] for n in range(0, len(images), count))
