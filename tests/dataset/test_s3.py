"""Datasets in a bucket: Moto's S3 server over loopback, which first refuses some requests."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from sdtrt.dataset.runner import Summary

Running = Callable[..., Summary]
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "2",
}


class FailingServer:
    """An S3 server that refuses the first `times` requests for each image."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self.times, self.refused = 0, Counter[str]()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] == "GET" and path.endswith(".png") and self.refused[path] < self.times:
            self.refused[path] += 1
            start_response("503 Slow Down", [("Content-Length", "0")])
            return []
        return self._app(environ, start_response)


@pytest.fixture(scope="module")
def failing() -> Iterator[FailingServer]:
    """A running server; environment variables point clients to it."""
    app = FailingServer()
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}"}).items():
            patch.setenv(name, value)
        yield app
    server.shutdown()
    thread.join()


@pytest.fixture(scope="module")
def bucket(failing: FailingServer, image_files: dict[str, bytes]) -> Any:
    """A bucket with images."""
    found = boto3.resource("s3").create_bucket(Bucket="bucket")
    for key, data in image_files.items():
        found.put_object(Key=f"in/{key}.png", Body=data)
    return found


def names(bucket: Any, prefix: str) -> set[str]:
    return {one.key.removeprefix(prefix) for one in bucket.objects.filter(Prefix=prefix)}


def test_s3_objects_that_fail_once_are_read(
    failing: FailingServer, bucket: Any, running: Running, image_files: dict[str, bytes], tmp_path: Path
) -> None:
    failing.times = 1
    summary = running("encode", "s3://bucket/in", "s3://bucket/packed")
    assert (summary.sums["samples"], summary.errors, summary.skipped) == (7, [], 0)
    assert sorted(failing.refused.values()) == [1] * 7
    records = {f".shards/shard-00000{n}.json" for n in range(3)}
    assert names(bucket, "packed/") == {*(f"{key}.sdt" for key in image_files), *records, "manifest.jsonl"}
    bucket.delete_objects(Delete={"Objects": [{"Key": "packed/part 0/2.sdt"}]})
    summary = running("encode", "s3://bucket/in", "s3://bucket/packed")
    assert (summary.sums["samples"], summary.errors, summary.skipped) == (7, [], 2)
    running("decode", "s3://bucket/packed", str(tmp_path / "back"))
    assert len(list((tmp_path / "back").rglob("*.png"))) == 7


def test_s3_unreadable_objects_are_tried_again(failing: FailingServer, bucket: Any, running: Running) -> None:
    failing.times = 1000
    summary = running("encode", "s3://bucket/in", "s3://bucket/tars", form="tar", shard_size=7)
    assert (summary.sums["samples"], len(summary.errors)) == (0, 7)
    failing.times = 0
    summary = running("encode", "s3://bucket/in", "s3://bucket/tars", form="tar", shard_size=7)
    assert (summary.sums["samples"], summary.errors, summary.skipped) == (7, [], 0)
    assert names(bucket, "tars/") == {".shards/shard-000000.json", "manifest.jsonl", "shard-000000.tar"}
