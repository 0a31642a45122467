"""The files under a root: as they are, in ranges, and as images; other files are refused."""

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
import httpx
import numpy as np
import pytest
from PIL import Image

import sdtrt
from sdtrt.engine.codec import EngineCodec
from sdtrt.serve.problems import ProblemError
from sdtrt.serve.storage import FileStore


def test_files_sdt_is_served_unchanged(shared: httpx.Client, real_files: dict[str, bytes]) -> None:
    for name in ("colour", "below/colour"):
        answer = shared.get(f"/files/{name}.sdt")
        assert answer.headers["content-type"] == "image/x-sdt"
        assert answer.content == real_files["colour"]
        assert answer.headers["cache-control"] == "public, max-age=3600"
    assert shared.head("/files/colour.sdt").headers["content-length"] == str(len(real_files["colour"]))


def test_files_image_types_are_decoded(shared: httpx.Client, codec: sdtrt.Codec, real_files: dict[str, bytes]) -> None:
    browser = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
    answer = shared.get("/files/colour.sdt", headers={"Accept": browser})
    assert answer.headers["content-type"] == "image/webp"
    for query, wanted in (
        ("?region=9x8%2B1%2B2", codec.decode(real_files["colour"], region=(1, 2, 9, 8))),
        ("?preview=8", codec.preview(real_files["colour"])),
        ("?look=auto", codec.decode(real_files["colour"])),
    ):
        answer = shared.get(f"/files/colour.sdt{query}")
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), np.asarray(wanted))


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("0-9", 0, 9), ("10-", 10, None), ("-7", -7, None), ("5-5", 5, 5), ("0-999999", 0, None), ("-999999", 0, None)],
)
def test_files_byte_range_is_served(
    shared: httpx.Client, real_files: dict[str, bytes], asked: str, first: int, last: int | None
) -> None:
    data = real_files["colour"]
    answer = shared.get("/files/colour.sdt", headers={"Range": f"bytes={asked}"})
    assert answer.status_code == 206
    assert answer.content == data[first:][: None if last is None else last - first + 1]
    start = first % len(data)
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(answer.content) - 1}/{len(data)}"


def test_files_invalid_range_is_ignored_or_416(shared: httpx.Client, real_files: dict[str, bytes]) -> None:
    data = real_files["colour"]
    for asked in ("bytes=9-3", "bytes=-", "bytes=0-1,4-5", "lines=0-1", "bytes=x-y"):
        answer = shared.get("/files/colour.sdt", headers={"Range": asked})
        assert (answer.status_code, answer.content) == (200, data)
    for asked in (f"bytes={len(data)}-", "bytes=-0"):
        answer = shared.get("/files/colour.sdt", headers={"Range": asked})
        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(data)}")


def test_files_matching_entity_tag_is_304(shared: httpx.Client) -> None:
    answer = shared.get("/files/colour.sdt")
    tag = answer.headers["etag"]
    for said in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = shared.get("/files/colour.sdt", headers={"If-None-Match": said})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert shared.get("/files/colour.sdt", headers={"If-None-Match": '"other"'}).status_code == 200
    others = [
        shared.get("/files/grey.sdt"),
        shared.get("/files/colour.sdt?preview=8"),
        shared.get("/files/colour.sdt", headers={"Accept": "image/png"}),
    ]
    assert len({tag, *(other.headers["etag"] for other in others)}) == 4
    stale = shared.get("/files/colour.sdt", headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    assert stale.status_code == 200
    fresh = shared.get("/files/colour.sdt", headers={"Range": "bytes=0-1", "If-Range": tag})
    assert fresh.status_code == 206


def test_files_head_ignores_range(shared: httpx.Client, real_files: dict[str, bytes]) -> None:
    answer = shared.head("/files/colour.sdt", headers={"Range": "bytes=0-3"})
    assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(real_files["colour"])))


def test_files_changed_file_has_another_entity_tag(
    serving: object, tmp_path: Path, real_files: dict[str, bytes]
) -> None:
    data = bytearray(real_files["layers"])
    (tmp_path / "a.sdt").write_bytes(data)
    client = serving(root=str(tmp_path))
    tag = client.get("/files/a.sdt").headers["etag"]
    data[20] ^= 1
    (tmp_path / "a.sdt").write_bytes(data)
    os.utime(tmp_path / "a.sdt", (1, 1))
    assert client.get("/files/a.sdt", headers={"If-None-Match": tag}).content == data
    assert client.get("/files/a.sdt", headers={"If-Match": tag}).status_code == 412
    (tmp_path / "b.sdt").write_bytes(b"no such file")
    assert client.get("/files/b.sdt").status_code == 422


def test_files_browser_gets_an_image(shared: httpx.Client) -> None:
    safari = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    assert shared.get("/files/colour.sdt", headers={"Accept": safari}).headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    "name",
    [
        "nothing.sdt",
        "secret.txt",
        "link.sdt",
        "below",
        "below/",
        "../outside.sdt",
        "%2e%2e/outside.sdt",
        "..%2foutside.sdt",
        "below/..%2f..%2foutside.sdt",
        "..%5coutside.sdt",
        "%2e%2e%5coutside.sdt",
        "%2fetc%2fpasswd.sdt",
        "//etc/passwd.sdt",
        "colour.sdt%00.sdt",
        "secret.txt%00.sdt",
        "file:///etc/passwd.sdt",
        "C:%5cwindows.sdt",
        "./colour.sdt%00",
        "below//colour.sdt",
        "*.sdt",
        "colour.sdt/x.sdt",
        "a" * 5000 + ".sdt",
        "%ff%fe.sdt",
    ],
)
def test_files_forbidden_name_is_404(shared: httpx.Client, name: str) -> None:
    request = shared.build_request("GET", "/files/x")
    request.url = request.url.copy_with(raw_path=f"/files/{name}".encode())
    answer = shared.send(request)
    assert answer.status_code == 404
    assert b"outside" not in answer.content or b"..'" not in answer.content


ODD_NAMES = [
    b"photo #1.sdt",
    b"what?.sdt",
    b"100%.sdt",
    b"a%20b.sdt",
    b" leading and trailing .sdt",
    b"caf\xe9.sdt",
    "caf\u00e9.sdt".encode(),
    "cafe\u0301.sdt".encode(),
    b"line\nend.sdt",
    b"back\\slash.sdt",
    b"..\\outside.sdt",
    b"a:b.sdt",
    b"C:.sdt",
    b"s3:.sdt",
    b"a::b.sdt",
    b"*.sdt",
    b"[a].sdt",
    b"~.sdt",
    b"-q.sdt",
    b"..x.sdt",
    b"'\"<>|.sdt",
    b"\x1b[31m\x7f.sdt",
    b"\xff\xfe.sdt",
    b"sub dir/x.sdt/y?#.sdt",
    b"n" * 251 + b".sdt",
    "\U0001f600\u202e.sdt".encode(),
]


@pytest.fixture(scope="module")
def odd_root(tmp_path_factory: pytest.TempPathFactory, real_files: dict[str, bytes]) -> Path:
    """A folder of files whose names contain characters that are special elsewhere."""
    folder = tmp_path_factory.mktemp("odd [names]*::~ #?")
    for name in ODD_NAMES:
        path = folder / os.fsdecode(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(real_files["colour"] + name)
        except OSError:  # a file system that allows UTF-8 alone
            assert name in {b"caf\xe9.sdt", b"\xff\xfe.sdt"}
    return folder


@pytest.fixture(scope="module")
def odd(running_service: Callable[..., Any], engine_codec: EngineCodec, odd_root: Path) -> Iterator[httpx.Client]:
    with running_service(engine_codec, root=str(odd_root)) as client:
        yield client


@pytest.mark.skipif(os.sep != "/", reason="other systems forbid these names")
@pytest.mark.parametrize("name", ODD_NAMES)
def test_files_odd_name_is_served(odd: httpx.Client, odd_root: Path, real_files: dict[str, bytes], name: bytes) -> None:
    if not (odd_root / os.fsdecode(name)).exists():
        pytest.skip("this file system does not allow the name")
    request = odd.build_request("GET", "/files/x", headers={"Accept": "image/x-sdt"})
    for safe in ("/", ""):
        request.url = request.url.copy_with(raw_path=f"/files/{quote(name, safe=safe)}".encode())
        answer = odd.send(request)
        assert (answer.status_code, answer.content) == (200, real_files["colour"] + name)


@pytest.mark.parametrize(
    "name", ["%0aoutside.sdt", "a%ff/../../outside.sdt", "%ff%2f..%2f..%2foutside.sdt", "pipe.sdt"]
)
def test_files_odd_name_outside_the_root_is_404(odd: httpx.Client, odd_root: Path, name: str) -> None:
    (odd_root.parent / "outside.sdt").write_bytes(b"SDT")
    if not (odd_root / "pipe.sdt").exists():
        os.mkfifo(odd_root / "pipe.sdt")
    request = odd.build_request("GET", "/files/x")
    request.url = request.url.copy_with(raw_path=f"/files/{name}".encode())
    answer = odd.send(request)
    assert answer.status_code == 404
    assert answer.json()["status"] == 404


def test_files_without_root_is_404(serving: object) -> None:
    assert serving().get("/files/colour.sdt").status_code == 404


def test_file_store_missing_root_is_refused(engine_codec: EngineCodec, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        FileStore(str(tmp_path / "nothing"))


def test_files_fsspec_location_is_served(serving: object, real_files: dict[str, bytes]) -> None:
    fsspec.filesystem("memory").pipe("/shelf/colour.sdt", real_files["colour"])
    client = serving(root="memory://shelf")
    assert client.get("/files/colour.sdt").content == real_files["colour"]
    assert client.get("/files/colour.sdt?preview=8").status_code == 200
    fsspec.filesystem("memory").pipe("/outside.sdt", real_files["colour"])
    for name in ("other.sdt", "%252e%252e/outside.sdt", "colour.sdt%23.sdt", "colour%252esdt"):
        assert client.get(f"/files/{name}").status_code == 404


def test_files_failing_location_is_502(
    serving: object, real_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/failing/colour.sdt", real_files["colour"])
    client = serving(root="memory://failing")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("of a library")

    monkeypatch.setattr(type(memory), "open", fail)
    assert client.get("/files/colour.sdt").status_code == 502


def test_files_too_large_file_needs_a_range(serving: object, root: Path, real_files: dict[str, bytes]) -> None:
    client = serving(root=str(root), max_nbytes=50)
    assert client.get("/files/colour.sdt").status_code == 413
    assert client.get("/files/colour.sdt", headers={"Range": "bytes=0-49"}).content == real_files["colour"][:50]


def test_file_store_missing_file_is_a_problem(root: Path) -> None:
    with pytest.raises(ProblemError, match=r"no file 'nothing\.sdt'"), FileStore(str(root)).open("nothing.sdt"):
        pass
