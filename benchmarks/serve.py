"""The HTTP service under load: requests per second and percentiles at 1, 8 and 64 clients, and the overhead of HTTP.

    python benchmarks/serve.py [--seconds 300]

`sdtrt serve` runs in a process of its own, over the loopback interface.
`load`: for `--seconds` at each number of clients, these send valid files of 64x64 and check each answer, images to be
encoded, damaged files and invalid requests. Some close the connection half way.
`overhead`: 8 clients decode files of 768x512 to JPEG, in turn with the same number of calls by two threads without the
service, in this process. `share` is the time of the service over the time of the calls.
"""

import argparse
import asyncio
import io
import json
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import numpy as np
from harness import sample_photo, write_results
from PIL import Image
from skimage.data import astronaut

import sdtrt
from sdtrt.engine.codec import EngineCodec
from sdtrt.serve.calls import Calls
from sdtrt.serve.handlers import Settings

CLIENTS = (1, 8, 64)
SECONDS, WARM_UP = 300, 5
WORKERS, WAITING = 2, 128
ROUNDS, CALLS, OVERHEAD_CLIENTS = 5, 24, 8
JPEG = {"Accept": "image/jpeg"}


class Load:
    """Random requests of the clients, with counts of the answers and times of the valid decodes."""

    def __init__(self, codec: sdtrt.Codec) -> None:
        self._files, self._expected = [], []
        for seed in range(8):
            self._files.append(codec.encode(photo_crop(64, 64, seed), quality=40))
            self._expected.append(np.asarray(codec.decode(self._files[-1])))
        stream = io.BytesIO()
        Image.fromarray(photo_crop(64, 64, 0)).save(stream, "PNG")
        self._png = stream.getvalue()
        self.statuses: Counter[str] = Counter()
        self.seconds: list[float] = []  # of valid decodes

    async def run(self, client: httpx.AsyncClient, port: int, end: float, rng: random.Random) -> None:
        """Send one request after the other until `end`, a time of `time.monotonic`."""
        kinds = (self._decode, self._encode, self._damaged, self._invalid)
        while time.monotonic() < end:
            if rng.random() < 0.05:
                await close_half_way(port, self._png)
                self.statuses["hung up"] += 1
                continue
            try:
                await rng.choices(kinds, (14, 2, 2, 1))[0](client, rng)
            except httpx.TransportError:
                self.statuses["lost"] += 1

    async def _decode(self, client: httpx.AsyncClient, rng: random.Random) -> None:
        number, started = rng.randrange(len(self._files)), time.monotonic()
        answer = await client.post("/decode", content=self._files[number])
        self.seconds.append(time.monotonic() - started)
        self._count("decode", answer)
        if answer.status_code == 200:
            decoded = np.asarray(Image.open(io.BytesIO(answer.content)))
            if not np.array_equal(decoded, self._expected[number]):
                self.statuses["a wrong picture"] += 1

    async def _encode(self, client: httpx.AsyncClient, _: random.Random) -> None:
        self._count("encode", await client.post("/encode?quality=40", content=self._png))

    async def _damaged(self, client: httpx.AsyncClient, rng: random.Random) -> None:
        data = bytearray(rng.choice(self._files))
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        self._count("broken", await client.post("/decode", content=bytes(data)))

    async def _invalid(self, client: httpx.AsyncClient, rng: random.Random) -> None:
        path, body = rng.choice([("/decode?region=9x9", b"SDT"), ("/encode?bytes=1", b"\x89PNG"), ("/info", b"")])
        self._count("hostile", await client.post(path, content=body))

    def _count(self, kind: str, answer: httpx.Response) -> None:
        self.statuses[f"{kind}: {answer.status_code}"] += 1


async def close_half_way(port: int, body: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body[: random.randrange(len(body) + 1)])
    await writer.drain()
    writer.close()


async def load(codec: sdtrt.Codec, clients: int, seconds: float) -> dict[str, object]:
    with running_service() as (process, port):
        async with open_client(port, clients) as client:
            await Load(codec).run(client, port, time.monotonic() + WARM_UP, random.Random(0))
            before, requests, end = resident(process.pid), Load(codec), time.monotonic() + seconds
            await asyncio.gather(*(requests.run(client, port, end, random.Random(n)) for n in range(clients)))
        figures = {
            "clients": clients,
            "seconds": seconds,
            "decodes_per_second": round(len(requests.seconds) / seconds, 1),
            **{f"p{p}_ms": round(1000 * float(np.percentile(requests.seconds, p)), 1) for p in (50, 99)},
            "answers": dict(sorted(requests.statuses.items())),
            "memory_growth_nbytes": resident(process.pid) - before,
        }
        process.send_signal(signal.SIGTERM)
        return figures | {"exit_code": process.wait(60)}


async def overhead(codec: EngineCodec, data: bytes) -> dict[str, float]:
    calls = Calls(codec, Settings().limits)

    def call_directly() -> float:
        started = time.monotonic()
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda _: calls.picture(data, ("image/jpeg",), {}), range(CALLS)))
        return (time.monotonic() - started) / CALLS

    async def call_service(client: httpx.AsyncClient) -> float:
        started, connections = time.monotonic(), asyncio.Semaphore(OVERHEAD_CLIENTS)

        async def decode() -> None:
            async with connections:
                assert (await client.post("/decode", content=data, headers=JPEG)).status_code == 200

        await asyncio.gather(*(decode() for _ in range(CALLS)))
        return (time.monotonic() - started) / CALLS

    with running_service() as (_, port):
        async with open_client(port, OVERHEAD_CLIENTS) as client:
            call_directly(), await call_service(client)  # warm-up
            pairs = [(call_directly(), await call_service(client)) for _ in range(ROUNDS)]
    return {
        "plain_ms": round(1000 * statistics.median(p for p, _ in pairs), 1),
        "served_ms": round(1000 * statistics.median(s for _, s in pairs), 1),
        "share": round(statistics.median(s / p for p, s in pairs), 3),
    }


@asynccontextmanager
async def open_client(port: int, clients: int) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=120) as client:
        while (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.1)
        yield client


@contextmanager
def running_service() -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Start the service, yield its process and port, and stop it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--workers", str(WORKERS), "--waiting", str(WAITING)]
    process = subprocess.Popen([sys.executable, "-m", "sdtrt", "serve", *options])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        yield process, port
    finally:
        process.kill()
        process.wait()


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return 1024 * int(line.split()[1])


def photo_crop(width: int, height: int, seed: int) -> np.ndarray:
    """Return a random crop of a photo, uint8 (height, width, 3)."""
    top, left = np.random.default_rng(seed).integers(0, 512 - 64, 2)
    return np.ascontiguousarray(astronaut()[top : top + height, left : left + width])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the HTTP service under load.")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each number of clients (default 300)")
    seconds = parser.parse_args().seconds
    engine_codec = EngineCodec("tiny", device="cpu")
    codec = sdtrt.Codec(engine_codec)
    figures = {
        "overhead": asyncio.run(overhead(engine_codec, codec.encode(sample_photo(), quality=50))),
        "load": [asyncio.run(load(codec, clients, seconds)) for clients in CLIENTS],
    }
    print(json.dumps(figures, indent=1))
    print(write_results("serve", figures))


if __name__ == "__main__":
    main()
