"""Pictures to latents and back on a device: kernels and networks, recorded in one graph for each shape.

U8Array cross the bus one way, symbols (or, to be encoded, latents) the other, through page-locked staging memory. What
depends on a picture's exact size, the kernels over pixels, is queued beside the graph. All that one shape needs is
kept in a plan; of many plans those that were not used for longest are dropped.

The tiles of larger pictures go one by one and are put together on the host, so that device memory is bounded.
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
from sdtrt.engine.coding.quantized_latents import QuantizedLatents
from sdtrt.engine.format.layout import Span
from sdtrt.engine.layers.layer_reader import LayerReader
from sdtrt.engine.networks.backends import DeviceNetworkLoader
from sdtrt.engine.networks.decode_request import DecodeRequest
from sdtrt.engine.networks.device_decoders import DeviceDecoders
from sdtrt.engine.networks.device_denoiser import DeviceDenoiser
from sdtrt.engine.networks.device_layers import DeviceLayers
from sdtrt.engine.networks.tiled import Rows, TiledRunner, rows_of
from sdtrt.errors import BundleError
from sdtrt.kernels import launches
from sdtrt.kernels.device import Device, DeviceArray, Graph, Stream

KEPT_PLANS = 8
MAX_AREA = 1 << 22  # pixels of a batch: libraries count a plane's elements, up to 256 to a pixel, in 31 bits

Item = TypeVar("Item")


@dataclass(slots=True, eq=False)
class ExecutionPlan:
    """Memory for one shape, on the host and on the device, and the work on it: queued at first, a graph later."""

    staging: dict[str, AnyArray]
    arrays: dict[str, DeviceArray]
    queue: Callable[[Stream], None]
    capturable: bool
    decoders: DeviceDecoders | None = None
    denoiser: DeviceDenoiser | None = None
    graph: Graph | None = None
    last_use: Any = None  # an event, after which the staging memory may be filled again


class GpuPipeline:
    """A bundle's networks on a device; see `engine.networks.pipeline.Pipeline`. One call at a time has the device."""

    def __init__(self, device: Device, backend: DeviceNetworkLoader, tiled: TiledRunner) -> None:
        bundle = tiled.bundle
        self.name = f"{backend.name} on {device.name}"
        self._bundle, self._device, self._profile, self._tiled = bundle, device, bundle.latent_profile(), tiled
        self._load = functools.cache(lambda network: backend.load(bundle, network))
        self._encoder, self._decoder = self._load("encoder"), self._load("decoder")
        self.largest_batch = min(self._encoder.largest_batch, self._decoder.largest_batch)
        self._low, self._high = bundle.pixel_range
        self._plans: OrderedDict[tuple[Any, ...], ExecutionPlan] = OrderedDict()
        self._layers = DeviceLayers(device)
        self._lock = Lock()
        weakref.finalize(self, drain, device)  # `decode_into` does not wait: what it needs must not be freed before

    def analyse(self, pixels: Sequence[U8Array]) -> list[F32Array]:
        height, width = pixels[0].shape[:2]
        if self._tiled.fits_one_tile(*self._profile.grid(width, height)[1:]):
            return [one for part in split_batch(pixels, width * height) for one in self._encoded(part)]
        return [np.concatenate([*self.analyse_tiled(rows_of(one), height, width)], axis=1) for one in pixels]

    def analyse_tiled(self, rows: Rows, height: int, width: int) -> Iterator[F32Array]:
        return self._tiled.analyse_tiled(rows, height, width, lambda tile: self._encoded([tile])[0])

    def _encoded(self, pixels: Sequence[U8Array]) -> list[F32Array]:
        count, (height, width) = len(pixels), pixels[0].shape[:2]
        sizes = self._sizes(count, height, width)
        device, stream = self._device, self._device.stream
        with self._at_work():
            plan = self._plan(("encode", count, *sizes.padded), lambda: self._encode_plan(count, *sizes.padded))
            rgb = plan.staging["rgb"][: count * sizes.image_stride]
            np.stack(pixels, out=rgb.reshape(count, height, width, 3))
            device.upload(plan.arrays["rgb"], rgb, stream)
            device.launch(self._to_planes(plan, sizes), stream)
            self._run(plan)
            device.download(plan.staging["latents"], plan.arrays["latents"], stream)
            device.record_event(stream).sync()
            latents = plan.staging["latents"].astype(np.float32)
        self._require(bool(np.isfinite(latents).all()), "encoder", "latents")
        return list(latents)

    def synthesise(self, pictures: Sequence[DecodeRequest]) -> list[U8Array]:
        if self._tiled.fits_one_tile(*pictures[0].shape[1:]):
            area = self._profile.downscale**2 * math.prod(pictures[0].shape[1:])
            return [one for part in split_batch(pictures, area) for one in self._decoded(part)]
        whole = [((0, one.header.height), (0, one.header.width)) for one in pictures]
        return [
            np.concatenate([*self.synthesise_tiled(one, *place)]) for one, place in zip(pictures, whole, strict=True)
        ]

    def synthesise_tiled(self, picture: DecodeRequest, rows: Span, columns: Span) -> Iterator[U8Array]:
        return self._tiled.synthesise_tiled(picture, self._decoded_planes, rows, columns)

    def _decoded_planes(self, tile: DecodeRequest) -> F32Array:
        device, stream = self._device, self._device.stream
        with self._at_work():
            plan = self._decode([tile])
            planes = plan.arrays["pixels"]
            if "planes" not in plan.staging:
                plan.staging["planes"] = device.staging(planes.shape, planes.dtype)
            device.download(plan.staging["planes"], planes, stream)
            device.record_event(stream).sync()
            found = plan.staging["planes"][0].astype(np.float32)
        self._require(bool(np.isfinite(found).all()), "decoder", "pixels")
        return found

    def _decoded(self, pictures: Sequence[DecodeRequest]) -> list[U8Array]:
        headers = [picture.header for picture in pictures]
        sides = max(h.height for h in headers), max(h.width for h in headers)
        sizes = self._sizes(len(headers), *sides, denoised=pictures[0].denoise_steps > 0)
        device, stream = self._device, self._device.stream
        with self._at_work():
            plan = self._decode(pictures)
            rgb = plan.staging["rgb"][: sizes.images * sizes.image_stride]
            device.launch(self._to_pixels(plan, plan.arrays["rgb"], sizes), stream)
            device.download(rgb, plan.arrays["rgb"], stream)
            device.download(plan.staging["raised"], plan.arrays["flags"], stream)
            device.record_event(stream).sync()
            self._require(plan.staging["raised"][0] == 0, "decoder", "pixels")
            whole = rgb.reshape(sizes.images, sizes.height, sizes.width, 3)
            return [one[: h.height, : h.width].copy() for one, h in zip(whole, headers, strict=True)]

    def synthesise_into(self, picture: DecodeRequest, layers: LayerReader, array: Any, stream: Any) -> None:
        header = picture.header
        target, foreign = self._device.array_of(array), self._device.stream_of(stream)
        expected = (header.height, header.width, 3)
        if target.shape != expected or target.dtype != np.uint8:
            raise ValueError(f"array of {target.dtype} {target.shape}, expected uint8 {expected}")
        sizes = self._sizes(1, header.height, header.width, denoised=picture.denoise_steps > 0)
        tiles, ours = list(layers.tiles()), self._device.stream  # a damaged layer is found while nothing is queued
        with self._at_work():
            plan = self._decode([picture])
            work = [self._to_pixels(plan, target, sizes), *self._layers.send(tiles, target)]
            self._device.wait(ours, foreign)
            try:
                for launch in work:
                    self._device.launch(launch, ours)
            finally:  # whatever was queued into the array comes before what its owner queues next
                self._device.wait(foreign, ours)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Have the device for one call; after an error nothing of the call is at work any more."""
        with self._lock:
            self._device.set_current()
            try:
                yield
            except BaseException:
                with suppress(Exception):  # the error at hand says more than one that follows from it
                    self._device.record_event(self._device.stream).sync()
                raise

    def _decode(self, pictures: Sequence[DecodeRequest]) -> ExecutionPlan:
        """Return the plan that will hold the decoder's planes of pictures, its work queued."""
        kind, steps, decoders = pictures[0].offset_kind, pictures[0].denoise_steps, pictures[0].decoders
        shape = (len(pictures), *pictures[0].shape)
        plan = self._plan(
            (f"decode {kind}", steps, decoders, *shape), lambda: self._decode_plan(kind, steps, decoders, shape)
        )
        if plan.last_use is not None:
            plan.last_use.sync()
        write_staging(plan.staging, pictures)
        if plan.decoders is not None:
            plan.decoders.fill(pictures)
        if plan.denoiser is not None:
            plan.denoiser.fill([picture.trajectory for picture in pictures if picture.trajectory])
        self._run(plan)
        plan.last_use = self._device.record_event(self._device.stream)
        return plan

    def _run(self, plan: ExecutionPlan) -> None:
        """Queue a plan's work; the first time as it is, since libraries set themselves up then."""
        if plan.graph is not None:
            plan.graph.launch(self._device.stream)
            return
        plan.queue(self._device.stream)
        if plan.capturable:
            self._device.record_event(self._device.stream).sync()
            plan.graph = self._device.capture(plan.queue)

    def _plan(self, key: tuple[Any, ...], make: Callable[[], ExecutionPlan]) -> ExecutionPlan:
        if key not in self._plans:
            while len(self._plans) >= KEPT_PLANS:
                self._device.record_event(self._device.stream).sync()  # it may still be at work
                self._plans.popitem(last=False)
            self._plans[key] = make()
        self._plans.move_to_end(key)
        return self._plans[key]

    def _encode_plan(self, count: int, height: int, width: int) -> ExecutionPlan:
        kinds = self._encoder.dtypes
        rgb = (count * height * width * 3,), np.uint8
        latents = (count, *self._profile.grid(width, height)), kinds["latents"]
        arrays = {
            "rgb": self._device.empty(*rgb),
            "pixels": self._device.empty((count, 3, height, width), kinds["pixels"]),
            "latents": self._device.empty(*latents),
        }
        staging = {"rgb": self._device.staging(*rgb), "latents": self._device.staging(*latents)}
        network = self._encoder.bind({name: arrays[name] for name in ("pixels", "latents")})
        return ExecutionPlan(staging, arrays, network, self._encoder.capturable)

    def _decode_plan(self, kind: str, steps: int, decoders: tuple[str, ...], shape: tuple[int, ...]) -> ExecutionPlan:
        device, kinds = self._device, self._decoder.dtypes
        count, channels, *sides = shape
        height, width = (side * self._profile.downscale for side in sides)
        sent = upload_specs(kind, shape, kinds)
        rgb = (count * height * width * 3,), np.uint8
        arrays = {name: device.empty(*what) for name, what in sent.items()}
        arrays.setdefault("latents", device.empty(shape, kinds["latents"]))
        arrays["pixels"] = device.empty((count, 3, height, width), kinds["pixels"])
        arrays["rgb"] = device.empty(*rgb)
        staging = {name: device.staging(*what) for name, what in sent.items()}
        staging["flags"][:] = 0
        staging |= {"rgb": device.staging(*rgb), "raised": device.staging((1,), np.uint32)}
        networks = DeviceDecoders(device, [self._load(name) for name in decoders], arrays)
        denoiser = DeviceDenoiser(device, self._load("unet"), arrays["latents"], steps) if steps else None

        def queue(stream: Stream) -> None:
            for name in sent:
                device.upload(arrays[name], staging[name], stream)
            if kind != "latents":
                device.launch(dequantize_of(kind, arrays, (1, count * channels, *sides)), stream)
            if denoiser is not None:
                denoiser.queue(stream)
            networks.queue(stream)

        capturable = networks.capturable and (denoiser is None or denoiser.capturable)
        return ExecutionPlan(staging, arrays, queue, capturable, networks, denoiser)

    def _sizes(self, count: int, height: int, width: int, *, denoised: bool = False) -> launches.ImageBatch:
        """Return what kernels over pixels are told of RGB pictures without gaps; a UNet wants larger planes."""
        multiple = self._profile.downscale * (self._bundle.unet.multiple if denoised and self._bundle.unet else 1)
        return launches.ImageBatch(count, height, width, 3, width * 3, height * width * 3, multiple=multiple)

    def _to_planes(self, plan: ExecutionPlan, sizes: launches.ImageBatch) -> launches.Launch:
        rgb, planes = plan.arrays["rgb"], plan.arrays["pixels"]
        return launches.pixels_to_planes(
            rgb.pointer, planes.pointer, pictures=sizes, dtype=planes.dtype, low=self._low, high=self._high
        )

    def _to_pixels(self, plan: ExecutionPlan, target: DeviceArray, sizes: launches.ImageBatch) -> launches.Launch:
        planes, flags = plan.arrays["pixels"], plan.arrays["flags"]
        return launches.planes_to_pixels(
            planes.pointer,
            target.pointer,
            flags.pointer,
            pictures=sizes,
            dtype=planes.dtype,
            low=self._low,
            high=self._high,
        )

    def _require(self, finite: bool, network: str, tensor: str) -> None:
        if not finite:
            raise BundleError(f"{self._bundle.name}'s {network} gave values in {tensor} that are not finite")


def drain(device: Device) -> None:
    """Wait for all that is queued on a device's stream; a device that is lost has nothing to wait for."""
    with suppress(Exception):  # of the driver: no common base
        device.set_current()
        device.record_event(device.stream).sync()


def upload_specs(
    kind: str, shape: tuple[int, ...], kinds: Mapping[str, np.dtype[Any]]
) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return shape and type of each array that the device is sent, in order to decode latents of a shape."""
    vector = (shape[0] * shape[1],), np.float32
    sent: dict[str, tuple[tuple[int, ...], Any]] = {"flags": ((1,), np.uint32)}
    sent["step"] = (shape[0],), kinds.get("step", np.float32)
    if kind == "latents":
        return sent | {"latents": (shape, kinds["latents"])}
    of_symbols = {"points": (shape, np.int8), "offset": vector}[kind]
    return sent | {"symbols": (shape, np.int16), "mean": vector, "delta": vector, kind: of_symbols}


def write_staging(staging: Mapping[str, AnyArray], pictures: Sequence[DecodeRequest]) -> None:
    """Write what the device is to be sent into staging memory."""
    for n, picture in enumerate(pictures):
        staging["step"][n] = picture.header.step
        one = picture.contents
        if not isinstance(one, QuantizedLatents):
            staging["latents"][n] = one
            continue
        staging["symbols"][n] = one.symbols
        for name, values in (("mean", one.mean), ("delta", one.delta), (picture.offset_kind, one.points)):
            staging[name].reshape(len(pictures), -1)[n] = values.ravel()


def dequantize_of(kind: str, arrays: Mapping[str, DeviceArray], shape: tuple[int, ...]) -> launches.Launch:
    """Return the launch that turns a batch's symbols into latents; each picture has channels of its own."""
    latents = arrays["latents"]
    symbols, mean, delta, last = (arrays[name].pointer for name in ("symbols", "mean", "delta", kind))
    return launches.dequantize(symbols, latents.pointer, mean, delta, shape=shape, dtype=latents.dtype, **{kind: last})


def split_batch(pictures: Sequence[Item], area: int) -> Iterator[Sequence[Item]]:
    """Yield pictures of so many pixels each, no more of them at once than networks can take."""
    count = max(1, MAX_AREA // area)
    yield from (pictures[n : n + count] for n in range(0, len(pictures), count))
