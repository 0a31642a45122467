"""A second decoder, from the bytes of a file to what it holds, written from docs/format.md alone and only for tests."""

import hashlib
import io
import json
import runpy
import zlib
from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]
Taps = list[tuple[int, int]]
Model = tuple[bytes, bytes]  # its profile in the form of a file's own, and its prior's file
Inner = tuple[bool, bool, bool, bool]  # whether a tile's top, bottom, left and right edge lie within the picture
DATA = Path(__file__).parents[1] / "engine" / "data"
PROFILES = {1: "tiny-1", 2: "sd1-1"}
layers_of = runpy.run_path(str(Path(__file__).with_name("independent_layers.py")))["layers_of"]
PRIORS, LIMIT = {0: "adaptive-1", 1: "tiny-1", 2: "sd1-1"}, 2**26
# For each pass the subsets of its positions: first row, first column, distance of rows and columns.
PYRAMID = [[(0, 0, 4)], [(2, 2, 4)], [(0, 2, 4), (2, 0, 4)], [(1, 1, 2)], [(0, 1, 2), (1, 0, 2)]]
M = np.array([min(((1 + s) ** 32).bit_length() // 2, 127) for s in range(256)], np.int64)  # 16 log2(1 + s), rounded
STRENGTH = np.array([((8 + x) ** 64 >> 192).bit_length() // 2 for x in range(1024)], np.int64)  # 32 log2(1 + x / 8)
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
    def __init__(self, data: bytes, arrays: dict[str, Ints]) -> None:
        need(not data.startswith(b"\0"), "zero byte at the start of a stream")
        words = bytes(-len(data) % 4) + data
        self.stack = [int.from_bytes(words[i : i + 4], "big") for i in range(0, len(words), 4)][::-1]
        tables = arrays["tables"]
        self.likely = [next((e for e, w in enumerate(row) if w > 2**23), None) for row in tables.tolist()]
        self.weights = tables.max(1).tolist()
        others = [others_of(row, e) for row, e in zip(tables.tolist(), self.likely, strict=True)]
        self.bounds = np.pad(np.cumsum(others, 1), ((0, 0), (1, 0))).tolist()
        self.points = arrays.get("centroids", 0 * arrays["tables"])
        self.state, self.left = 0, dict[int, int]()  # words left before each pass
        while self.state < 2**32 and self.stack:
            self.state = self.state * 2**32 + self.stack.pop()

    def entry(self, bounds: list[int] | range) -> int:  # the c of the text, and 2^24
        rest = self.state % 2**24
        i = bisect_right(bounds, rest) - 1
        self.state = (self.state >> 24) * (bounds[i + 1] - bounds[i]) + rest - bounds[i]
        if self.state < 2**32 and self.stack:
            self.state = self.state * 2**32 + self.stack.pop()
        return i

    def entries(self, rows: list[int]) -> list[int]:
        likely, pairs = [self.likely[row] for row in rows], [[0, self.weights[row], 2**24] for row in rows]
        is_other = [e is None or self.entry(pair) == 1 for e, pair in zip(likely, pairs, strict=True)]
        found = [self.entry(self.bounds[row]) if is_it else None for row, is_it in zip(rows, is_other, strict=True)]
        need(all(a is None or a != b for a, b in zip(found, likely, strict=True)), "a likely entry told as another")
        return [b if a is None else a for a, b in zip(found, likely, strict=True)]

    def read_pass(self, locations: Ints, scales: Ints) -> tuple[Ints, Ints]:  # symbols, points
        rows, bases, steps = scales * 8 + locations % 8, (locations // 8).ravel().tolist(), scales.ravel().tolist()
        entries = self.entries(rows.ravel().tolist())
        bits = [0 if s < 17 else 1 + (s - 17) // 3 for s in steps]
        low = [self.entry(RAW[n]) if n and e != 31 else 0 for e, n in zip(entries, bits, strict=True)]
        values = [b + (e - 15) * 2**n + d for b, e, n, d in zip(bases, entries, bits, low, strict=True)]
        values = [self.entry(RAW[16]) - 32768 if e == 31 else value for e, value in zip(entries, values, strict=True)]
        return np.array(values, int).reshape(rows.shape), self.points[rows, np.array(entries, int).reshape(rows.shape)]


def others_of(row: list[int], likely: int | None) -> list[int]:
    if likely is None:
        return row
    found = [w * (2**24 - 1) // (2**24 - row[likely]) for w in row]
    found[likely] = 0
    found[found.index(max(found))] += 2**24 - 1 - sum(found)
    found[likely] = 1
    return found


def held(coder: Coder, passes: list[Any], at: list[Ints]) -> list[tuple[int, Any, Ints]]:  # number, pass, positions
    there = [(n, one, places) for n, (one, places) in enumerate(zip(passes, at, strict=True)) if places.size]
    count = coder.entry(RAW[len(there).bit_length()])
    need(count <= len(there), "more passes than there are")
    return there[:count]


def arrays_of(prior: str | bytes) -> dict[str, Ints]:
    with np.load(DATA / "priors" / f"{prior}.npz" if isinstance(prior, str) else io.BytesIO(prior)) as file:
        return {name: file[name].astype(np.int64) for name in file.files}


def positions(subsets: list[tuple[int, int, int]], height: int, width: int) -> Ints:  # (2, positions)
    every = [(y, x) for top, left, d in subsets for y in range(top, height, d) for x in range(left, width, d)]
    return np.array(every, np.int64).reshape(-1, 2).T


def seen(padded: Ints, at: Ints, taps: Taps) -> list[Ints]:
    return [padded[:, at[0] + 4 + dy, at[1] + 4 + dx] for dy, dx in taps]


def spread(padded: Ints, group: slice, subsets: list[tuple[int, int, int]], inner: Inner) -> None:
    inside = padded[:, 4:-4, 4:-4].copy()
    _, height, width = inside.shape
    for top, left, d in subsets:
        if top < height and left < width:
            above, below, before, behind = (4 * within for within in inner)
            rows = [n for n in range(-above, height + below) if n % d == top]
            columns = [n for n in range(-before, width + behind) if n % d == left]
            known = inside[group][:, nearest(rows, height)[:, None], nearest(columns, width)]
            padded[group, np.add(rows, 4)[:, None], np.add(columns, 4)] = known


def nearest(places: list[int], side: int) -> Ints:
    return np.clip(places, min(n for n in places if n >= 0), max(n for n in places if n < side))


def adaptive(parameters: Ints, padded: Ints, at: Ints, taps: Taps) -> tuple[Ints, Ints]:
    weight, base, first = parameters.T[:, :, None]
    if not taps:
        return 0 * (first + at[0]), first + 0 * at[0]
    near = [(dy, dx) for dy, dx in taps if abs(dy) + abs(dx) == min(abs(y) + abs(x) for y, x in taps)]
    mean = (8 * np.sum(seen(padded.clip(-1023, 1023), at, near), 0) + len(near) // 2) // len(near)
    magnitude = 8 * np.sum(seen(M[np.abs(padded).clip(0, 255)], at, taps + near), 0) // (len(taps) + len(near))
    return mean * weight // 8, np.minimum(base + magnitude * 3 // 128, 31)


def product(arrays: dict[str, Ints], name: str, n: int, inputs: Ints) -> Ints:
    return arrays[f"{name}{n}"] @ inputs + arrays[f"{name}_bias{n}"][:, None]


def read_adaptively(payload: Bytes, prior: str | bytes, code: int, symbols: Ints, points: Ints, inner: Inner) -> Coder:
    count, known = len(symbols), Taps()
    parameters = np.array(list(payload.take(3 * count)), np.int64).reshape(-1, 3)
    need(bool((parameters <= [8, 31, 31]).all()), "wrong parameters")
    coder, window = Coder(payload.rest, arrays_of(prior)), [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
    padded = np.pad(symbols, ((0, 0), (4, 4), (4, 4)))
    places = [positions(subsets, *symbols.shape[1:]) for subsets in PYRAMID]
    found = np.ones(1, np.int64)
    for n, subsets, at in held(coder, PYRAMID, places):
        coder.left[n] = len(coder.stack)
        cells = positions(subsets, 4, 4).T.tolist()
        taps = [(dy, dx) for dy, dx in window if all([(y + dy) % 4, (x + dx) % 4] in known for y, x in cells)]
        found = coder.read_pass(*adaptive(parameters, padded, at, taps))[0]
        symbols[:, at[0], at[1]] = found
        padded[:, 4:-4, 4:-4] = symbols
        spread(padded, np.s_[:], subsets, inner)
        known = known + cells
    need(bool(found.any()), "a last pass of zeros")
    return coder


def power(code: int) -> int:
    return next(p for p in range(int(2 ** (14 + code / 256)) + 2, 0, -1) if p**256 <= 2 ** (3584 + code))


def read_seeing_latents(
    payload: Bytes, prior: str | bytes, code: int, symbols: Ints, points: Ints, inner: Inner
) -> Coder:
    arrays = arrays_of(prior)
    text, coder = json.loads(bytes(arrays["architecture"].tolist())), Coder(payload.rest, arrays)
    latents, order = np.pad(0 * symbols, ((0, 0), (4, 4), (4, 4))), np.array(text["order"])
    near = min(max(code, 768), 3328)
    need(len(order) == len(symbols), "prior for another number of channels")
    step = np.array([[max(127 - 127 * abs(768 + 160 * k - near) // 160, 0)] for k in range(17)], np.int64)
    areas = [[(y, x, one["stride"]) for y, x in one["origins"]] for one in text["passes"]]
    places = [positions(subsets, *symbols.shape[1:]) for subsets in areas]
    told = {n for n, _, _ in held(coder, text["passes"], places)}
    last = np.ones((1, 1), np.int64)
    for n, (one, at) in enumerate(zip(text["passes"], places, strict=True)):
        if at.size == 0 or not (n in told or one.get("predicted")):
            continue
        values = [seen(latents[a:b], at, [(dy, dx)])[0] for a, b, dy, dx in one["values"]]
        values += [STRENGTH[abs(seen(latents[a:b], at, [(dy, dx)])[0])] for a, b, dy, dx in one["magnitudes"]]
        inputs = np.concatenate([*values, step.repeat(at.shape[1], 1)])
        units, straight = np.split(product(arrays, "first", n, inputs), [arrays[f"second{n}"].shape[1]])
        seconds = (product(arrays, "second", n, (units >> 6).clip(0, 1023)) >> 9).clip(0, 1023)
        locations, scales = np.split(straight + arrays[f"output{n}"] @ seconds, 2)
        if one.get("predicted"):
            origins = ((locations * power(4096 - code) + 2**32) >> 33).clip(-(2**18), 2**18 - 1)
            locations = 0 * locations
        else:
            locations = ((locations * power(4096 - code) + 2**36) >> 37).clip(-32768, 32767)
        known = within = 0 * locations
        if n in told:
            coder.left[n] = len(coder.stack)
            last = known, within = coder.read_pass(locations, ((scales + 48 * (2048 - code)) >> 12).clip(0, 31))
        seen_as = (known * power(code) + 2**15) >> 16
        if one.get("predicted"):
            spacing = one.get("spacing", 64)
            seen_as = ((origins + spacing * known) * power(code) + 2**22) >> 23
            within = (origins + ((64 * known + within) * spacing >> 6)).clip(-(2**21), 2**21 - 64) - 64 * known
        group = slice(*one["channels"])
        symbols[order[group, None], at[0], at[1]], points[order[group, None], at[0], at[1]] = known, within
        latents[group, at[0] + 4, at[1] + 4] = seen_as.clip(-1023, 1023)
        spread(latents, group, areas[n], inner)
    need(bool(np.any(last[0])), "a last pass of zeros")
    return coder


def read_palette(payload: Bytes, height: int, width: int) -> Any:
    inflater = zlib.decompressobj()
    data = np.frombuffer(inflater.decompress(payload.rest, 1025 + height * width), np.uint8)
    need(inflater.eof and not inflater.unused_data and len(data) == 1024 + height * width, "wrong palette")
    colours = data[:1024].reshape(256, 4)[data[1024:].reshape(height, width)]
    return (colours.transpose(2, 0, 1) - 127.5) * 0.18215**2


def read_own_profile(data: Bytes, model: Model | None, bundled: bool) -> tuple[int, int]:
    fixed = data.take(10)
    if bundled:
        need(model is not None and data.take(8) == hashlib.sha256(b"".join(model)).digest()[:8], "another model's")
    codes, vectors = np.frombuffer(fixed[6:], "<u2"), model[0][10:] if bundled else data.take(16 * fixed[4])
    floats = np.frombuffer(vectors, "<f4").reshape(4, -1)
    need(fixed[4] > 0 and fixed[5] > 0 and codes[0] != codes[1] and max(codes) < 4096, "wrong profile")
    need(bool(np.isfinite(floats).all() and (floats[1:3] > 0).all()), "wrong values in a profile")
    return fixed[4], fixed[5]


def edges(length: int, count: int) -> list[int]:
    need(count <= max(1, length // 32), "too many tiles")
    return [4 * (n * -(-length // 4) // count) for n in range(count)] + [length]


def crc16(data: bytes) -> int:
    register = 0
    for bit in (byte >> place & 1 for byte in data for place in range(7, -1, -1)):
        register = (register << 1 ^ 0x1021 * (register >> 15 ^ bit)) & 0xFFFF
    return register


def read_segments(file: bytes, data: Bytes, flags: int, most: int) -> tuple[dict[str, list[bytes]], int, int, int]:
    """Return the segments of each kind, columns and rows of tiles, and the step of residuals."""
    if not flags & 0x40:
        segment = data.take(data.varint() if flags & 0x10 else len(data.rest))
        return {"0": [segment], "overlay": [], "residual": [], "alpha": []}, 1, 1, 0
    columns, rows, kinds = data.varint() + 1, data.varint() + 1, data.take(1)[0]
    levels, residual = kinds & 7, kinds & 32 > 0
    step = int.from_bytes(data.take(2), "little") if residual else 0
    counts = {str(level): 1 for level in range(levels)}
    counts |= {"overlay": kinds >> 4 & 1, "residual": kinds >> 5 & 1, "alpha": kinds >> 3 & 1}
    count = columns * rows * sum(counts.values())
    need(kinds < 64 and levels in {1, most} and 1 < count <= len(file), "wrong index")
    need(not residual or step > 0, "a residual of step 0")
    entries = [(data.varint(), int.from_bytes(data.take(2), "little")) for _ in range(count)]
    before = file[: len(file) - 4 - len(data.rest)]
    need(int.from_bytes(data.take(4), "little") == zlib.crc32(before), "wrong checksum of the index")
    segments = [data.take(length) for length, _ in entries]
    need(all(crc16(one) == check for one, (_, check) in zip(segments, entries, strict=True)), "a damaged segment")
    need(all(len(one) % 4 == 0 for one in segments[columns * rows : columns * rows * levels]), "a level between words")
    rest = iter(segments)
    return {kind: [next(rest) for _ in range(n * columns * rows)] for kind, n in counts.items()}, columns, rows, step


def decode(file: bytes, model: Model | None = None) -> dict[str, Any]:
    data = Bytes(file[:-4])
    need(data.take(3) == b"SDT" and len(file) > 13 and file[3] & 0x8F == 1, "not an .sdt file of version 1")
    need(zlib.crc32(file[:-4]) == int.from_bytes(file[-4:], "little"), "wrong checksum")
    flags, profile, prior = data.take(3)
    width, height, step = data.varint() + 1, data.varint() + 1, int.from_bytes(data.take(2), "little")
    need(prior in {0: {0}, 254: {254}}.get(profile, {255, *PRIORS}) and step < 2**14, "unknown")
    if profile in PROFILES:
        known = json.loads((DATA / "profiles" / f"{PROFILES[profile]}.json").read_text("utf-8"))
        channels, downscale = known["channels"], known["downscale"]
    else:
        need(profile in {0, 254}, "unknown")
        channels, downscale = read_own_profile(data, model, profile == 254)
    named = model[1] if model and prior == 254 else PRIORS.get(prior, "")
    cuts = json.loads(bytes(arrays_of(named)["architecture"].tolist()))["cuts"] if prior in {1, 2, 254} else [3, 4]
    shape = (channels, -(-height // downscale), -(-width // downscale))
    need(max(width, height) <= 2**24 and max(width * height, int(np.prod(shape))) <= LIMIT, "too large")
    segments, columns, rows, residual_step = read_segments(file, data, flags, len(cuts) + 1 if prior < 255 else 1)
    read_chunks(data, bool(flags & 0x10))
    streams = [*zip(*(one for kind, one in segments.items() if kind.isdigit()), strict=True)]
    short = -(len(segments["0"][0]) - (0 if prior else 3 * channels)) % 4
    need(short == step >> 12, "another alignment")
    down, across = edges(shape[1], rows), edges(shape[2], columns)
    in_pixels = [[min(downscale * n, end) for n in one] for one, end in ((down, height), (across, width))]
    found = layers_of(segments, residual_step, *in_pixels, Coder)
    if prior == 255:
        need(channels == 4 and len(streams) == 1 and "1" not in segments, "palette with other channels, or tiles")
        return found | {"latents": read_palette(Bytes(streams[0][0]), *shape[1:]).astype(np.float32)}
    symbols, points = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    read = read_seeing_latents if prior else read_adaptively
    for (y, x), levels in zip(np.ndindex(rows, columns), streams, strict=True):
        place = np.s_[:, down[y] : down[y + 1], across[x] : across[x + 1]]
        inner = (y > 0, y < rows - 1, x > 0, x < columns - 1)
        coder = read(Bytes(b"".join(levels)), named, step % 2**12, symbols[place], points[place], inner)
        need(coder.state == 0 and not coder.stack, "a stream does not end with its symbols")
        for level, cut in enumerate(cuts[: len(levels) - 1], 1):
            left = next((left for n, left in coder.left.items() if n >= cut), 0)
            need(4 * left == sum(map(len, levels[level:])), "a level does not end with its last pass")
    found |= {"points": points.astype(np.int32)} if tells_points(arrays_of(named)) else {}
    return found | {"symbols": symbols.astype(np.int16)}


def tells_points(arrays: dict[str, Ints]) -> bool:
    passes = json.loads(bytes(arrays["architecture"].tolist()))["passes"] if "architecture" in arrays else []
    return "centroids" in arrays or any(one.get("predicted") for one in passes)


def read_chunks(data: Bytes, announced: bool) -> None:
    need(announced == bool(data.rest), "chunks announced, but none, or the reverse")
    last = 0
    while data.rest:
        kind = data.take(1)[0]
        need(last < kind < 0x80, "unknown or disordered chunk")
        last, _ = kind, data.take(data.varint())
