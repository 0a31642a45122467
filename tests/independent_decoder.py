"""A second decoder, from the bytes of a file to its symbols, written from docs/format.md alone and only for tests."""

import json
import zlib
from bisect import bisect_right
from pathlib import Path

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Taps = list[tuple[int, int]]
DATA = Path(__file__).parents[1] / "engine" / "data"
PROFILES, PRIORS, LIMIT = {1: "tiny-1", 2: "sd1-1"}, {0: "adaptive-1", 1: "tiny-1"}, 2**26
# For each pass the subsets of its positions: first row, first column, distance of rows and columns.
PYRAMID = [[(0, 0, 4)], [(2, 2, 4)], [(0, 2, 4), (2, 0, 4)], [(1, 1, 2)], [(0, 1, 2), (1, 0, 2)]]
CHECKERBOARD = [[(0, 0, 2), (1, 1, 2)], [(0, 1, 2), (1, 0, 2)]]
CROSS = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
MAGNITUDES = np.array([min(((1 + s) ** 32).bit_length() // 2, 127) for s in range(256)], np.int64)  # 16 log2, rounded
RAW = [range(0, 2**24 + 1, 2 ** (24 - n)) for n in range(17)]


def need(condition: bool | np.bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, count: int) -> bytes:
        need(count <= len(self.rest), "cut short")
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def varint(self) -> int:
        digits = self.take(next((i + 1 for i, byte in enumerate(self.rest[:5]) if byte < 128), 0))
        need(len(digits) > 0 and (len(digits) == 1 or digits[-1] > 0), "not a varint, or longer than needed")
        return sum((digit & 127) << 7 * place for place, digit in enumerate(digits))


class Coder:
    def __init__(self, data: bytes) -> None:
        need(not data.endswith(b"\0"), "zero byte at the end of the payload")
        self.stack = [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
        self.state = 0
        while self.state < 2**32 and self.stack:
            self.state = self.state * 2**32 + self.stack.pop()

    def entry(self, bounds: list[int] | range) -> int:  # the c of the text, and 2^24
        rest = self.state % 2**24
        i = bisect_right(bounds, rest) - 1
        self.state = (self.state >> 24) * (bounds[i + 1] - bounds[i]) + rest - bounds[i]
        if self.state < 2**32 and self.stack:
            self.state = self.state * 2**32 + self.stack.pop()
        return i

    def read_pass(self, tables: list[list[int]], locations: list[int], scales: list[int]) -> list[int]:
        entries = [self.entry(tables[s * 8 + p % 8]) for p, s in zip(locations, scales, strict=True)]
        bits = [0 if s < 17 else 1 + (s - 17) // 3 for s in scales]
        low = [self.entry(RAW[n]) if n and e != 31 else 0 for e, n in zip(entries, bits, strict=True)]
        values = [p // 8 + (e - 15) * 2**n + b for p, e, n, b in zip(locations, entries, bits, low, strict=True)]
        return [self.entry(RAW[16]) - 32768 if e == 31 else value for e, value in zip(entries, values, strict=True)]


def gather(planes: Ints, at: Ints, taps: Taps) -> tuple[list[Ints], list[Ints]]:  # symbols, magnitudes
    padded = np.pad(planes.clip(-1023, 1023), ((0, 0), (3, 3), (3, 3)))
    symbols = [padded[:, at[0] + 3 + dy, at[1] + 3 + dx] for dy, dx in taps]
    return symbols, [MAGNITUDES[np.minimum(np.abs(plane), 255)] for plane in symbols]


def adaptive(parameters: Ints, symbols: Ints, at: Ints, taps: Taps) -> tuple[Ints, Ints]:
    weight, base, first = parameters.T[:, :, None]
    if not taps:
        return 0 * (first + at[0]), first + 0 * at[0]
    near = [(dy, dx) for dy, dx in taps if abs(dy) + abs(dx) == min(abs(y) + abs(x) for y, x in taps)]
    mean = (8 * np.sum(gather(symbols, at, near)[0], 0) + len(near) // 2) // len(near)
    magnitude = 8 * np.sum(gather(symbols, at, taps + near)[1], 0) // (len(taps) + len(near))
    return mean * weight // 8, np.minimum(base + magnitude * 3 // 128, 31)


def network(arrays: dict[str, Ints], n: int, inputs: Ints) -> tuple[Ints, Ints]:
    units = ((arrays[f"hidden{n}"] @ inputs + arrays[f"hidden_bias{n}"][:, None]) // 64).clip(0, 127)
    sums = arrays[f"direct{n}"] @ inputs + arrays[f"output{n}"] @ units + arrays[f"output_bias{n}"][:, None]
    locations, scales = np.split(sums // 64, 2)
    return locations.clip(-32768, 32767), scales.clip(0, 31)


def read_symbols(payload: Bytes, prior: int, step_code: int, shape: tuple[int, int, int]) -> npt.NDArray[np.int16]:
    with np.load(DATA / "priors" / f"{PRIORS[prior]}.npz") as file:
        arrays = {name: file[name].astype(np.int64) for name in file.files}
    groups = json.loads(bytes(arrays["groups"].tolist())) if prior else [list(range(shape[0]))]
    parameters = np.array(list(payload.take(0 if prior else 3 * shape[0])), np.int64).reshape(-1, 3)
    need(sum(map(len, groups)) == shape[0] and (parameters <= [8, 31, 31]).all(), "wrong prior or parameters")
    coder, n, before, symbols = Coder(payload.rest), 0, list[int](), np.zeros(shape, np.int64)
    tables = np.pad(np.cumsum(arrays["tables"], 1), ((0, 0), (1, 0))).tolist()
    step = np.array([[max(127 - 127 * abs(256 * k - step_code) // 256, 0)] for k in range(17)], np.int64)
    for group in groups:
        passes, reach, known = (CHECKERBOARD, 2, Taps()) if before else (PYRAMID, 3 if prior else 2, Taps())
        for subsets in passes:
            cells = [(y, x) for a, b, d in subsets for y in range(a, 4, d) for x in range(b, 4, d)]
            every = [(y, x) for a, b, d in subsets for y in range(a, shape[1], d) for x in range(b, shape[2], d)]
            window = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
            taps = [(dy, dx) for dy, dx in window if all(((y + dy) % 4, (x + dx) % 4) in known for y, x in cells)]
            at = np.array(every, np.int64).reshape(-1, 2).T
            if prior:
                own, magnitudes = gather(symbols[group], at, taps)
                features = [*own, *magnitudes, *gather(symbols[before], at, CROSS)[1], step.repeat(len(every), 1)]
                locations, scales = network(arrays, n, np.concatenate(features))
            else:
                locations, scales = adaptive(parameters, symbols, at, taps)
            values = coder.read_pass(tables, locations.ravel().tolist(), scales.ravel().tolist())
            symbols[np.array(group)[:, None], at[0], at[1]] = np.array(values).reshape(locations.shape)
            known, n = known + cells, n + 1
        before = before + group
    need(coder.state == 0 and not coder.stack, "the payload does not end with the symbols")
    return symbols.astype(np.int16)


def read_channels_and_downscale(data: Bytes, profile: int) -> tuple[int, int]:
    chunks: dict[int, bytes] = {}
    while data.rest:
        kind = data.take(1)[0]
        need(kind > max(chunks, default=0) and (kind < 0x80 or kind in (0x81, 0x82)), "unknown or disordered chunk")
        chunks[kind] = data.take(data.varint())
    need((0x82 in chunks) == (profile == 0), "PROFILE chunk without profile 0, or the reverse")
    if profile:
        known = json.loads((DATA / "profiles" / f"{PROFILES[profile]}.json").read_text("utf-8"))
        return known["channels"], known["downscale"]
    chunk = chunks[0x82]
    need(len(chunk) > 10 and len(chunk) == 10 + 16 * chunk[4] and chunk[5] > 0, "wrong profile")
    codes, floats = np.frombuffer(chunk[6:10], "<u2"), np.frombuffer(chunk[10:], "<f4").reshape(4, -1)
    need(codes[0] != codes[1] and max(codes) < 4096 and np.isfinite(floats).all() and (floats[1:3] > 0).all(), "values")
    return chunk[4], chunk[5]


def decode(file: bytes) -> npt.NDArray[np.int16]:
    data = Bytes(file[:-4])
    need(data.take(4) == b"SDT\1", "not an .sdt file of version 1")
    need(zlib.crc32(file[:-4]) == int.from_bytes(file[-4:], "little"), "wrong checksum")
    profile, prior = data.take(2)
    width, height, flags = data.varint() + 1, data.varint() + 1, int.from_bytes(data.take(2), "little")
    need(profile in {0, *PROFILES} and prior in (PRIORS if profile else {0}) and flags < 2**14, "unknown id or flag")
    payload = Bytes(data.take(data.varint() if flags & 2**12 else len(data.rest)))
    need(len(data.rest) > 0 or not flags & 2**12, "chunks announced, but none")
    channels, downscale = read_channels_and_downscale(data, profile)
    shape = (channels, -(-height // downscale), -(-width // downscale))
    need(max(width, height) <= 2**24 and max(width * height, int(np.prod(shape))) <= LIMIT, "too large")
    return read_symbols(payload, prior, flags % 2**12, shape)
