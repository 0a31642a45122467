"""Responses of the operations, over real connections."""

import io
import json
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from PIL import Image, features

import sdtrt
from sdtrt.serve import openapi
from sdtrt.serve.operations import OPERATIONS

Photo = Callable[[int, int], np.ndarray]


def stored(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def answer_pixels(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    assert "\n" not in body["detail"]
    return answer.status_code, body["detail"]


def test_encode_equals_the_python_api(shared: httpx.Client, codec: sdtrt.Codec, photo: Photo) -> None:
    pixels = photo(45, 37)
    answer = shared.post("/encode?quality=30&effort=2", content=stored(pixels))
    assert answer.headers["content-type"] == "image/x-sdt"
    assert answer.content == codec.encode(pixels, quality=30, effort=2)
    roi = shared.post("/encode?max_bytes=500&roi=16x8%2B4%2B4&roi_weight=8&strip=true&layers=1", content=stored(pixels))
    assert roi.content == codec.encode(pixels, max_bytes=500, roi=(4, 4, 16, 8), roi_weight=8, layers=1)
    assert len(shared.post("/encode?bpp=2", content=stored(pixels)).content) <= 45 * 37 / 4


def test_encode_method_equals_the_python_api(shared: httpx.Client, codec: sdtrt.Codec, photo: Photo) -> None:
    pixels = photo(45, 37)
    assert shared.post("/encode?method=latents", content=stored(pixels)).content == codec.encode(pixels)
    status, detail = problem(shared.post("/encode?method=palette&roi=8x8%2B0%2B0", content=stored(pixels)))
    assert (status, "no region of interest" in detail) == (422, True)
    assert problem(shared.post("/encode?method=magic", content=stored(pixels)))[0] == 422


def test_decode_denoise_equals_the_python_api(shared: httpx.Client, real_files: dict[str, bytes]) -> None:
    data = real_files["colour"]
    plain = answer_pixels(shared.post("/decode", content=data))
    for steps in ("auto", "0", "off"):
        np.testing.assert_array_equal(answer_pixels(shared.post(f"/decode?denoise={steps}", content=data)), plain)
    status, detail = problem(shared.post("/decode?denoise=2", content=data))
    assert (status, "no UNet" in detail) == (422, True)
    for wrong in ("-1", "1001", "2.5", "on"):
        assert problem(shared.post(f"/decode?denoise={wrong}", content=data))[0] == 422


@pytest.mark.parametrize("name", ["colour", "grey", "alpha", "layers"])
def test_decode_equals_the_python_api(
    shared: httpx.Client, codec: sdtrt.Codec, real_files: dict[str, bytes], name: str
) -> None:
    image = codec.decode(real_files[name])
    np.testing.assert_array_equal(answer_pixels(shared.post("/decode", content=real_files[name])), np.asarray(image))
    part = answer_pixels(shared.post("/decode?region=16x8%2B4%2B5&look=faithful", content=real_files[name]))
    np.testing.assert_array_equal(part, np.asarray(image)[5:13, 4:20])
    fast = shared.post("/decode?look=fast", content=real_files[name])
    np.testing.assert_array_equal(answer_pixels(fast), np.asarray(codec.decode(real_files[name], look="fast")))
    small = shared.post("/decode?preview=8", content=real_files[name])
    np.testing.assert_array_equal(answer_pixels(small), np.asarray(codec.preview(real_files[name])))


def test_decode_width_downscales(shared: httpx.Client, codec: sdtrt.Codec, photo: Photo) -> None:
    data = codec.encode(photo(200, 100))
    for width, size in ((20, (20, 10)), (50, (50, 25)), (200, (200, 100)), (999, (200, 100)), (1, (1, 1))):
        answer = shared.post(f"/decode?width={width}", content=data)
        assert answer_pixels(answer).shape[1::-1] == size
    part = shared.post("/decode?width=10&region=40x40%2B0%2B0", content=data)
    assert answer_pixels(part).shape == (10, 10, 3)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "image/png"),
        ("image/webp", "image/webp"),
        ("text/html, image/jpeg;q=0.5, image/png;q=0.1", "image/jpeg"),
        ("image/*, image/png;q=0", "image/webp"),
        ("IMAGE/WEBP; q=0.3, */*; q=0.2", "image/webp"),
        ("image/webp;q=.5, image/png;q=0.7", "image/png"),
        ("image/png;q=x, image/jpeg;q=0.1", "image/jpeg"),
        (f"image/jpeg{', text/x' * 500}", "image/jpeg"),
    ],
)
def test_decode_accept_selects_the_media_type(
    shared: httpx.Client, real_files: dict[str, bytes], accept: str, kind: str
) -> None:
    for name in ("colour", "alpha"):
        answer = shared.post("/decode", content=real_files[name], headers={"Accept": accept})
        assert (answer.headers["content-type"], answer.headers["vary"]) == (kind, "Accept")
        assert Image.open(io.BytesIO(answer.content)).get_format_mimetype() == kind


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
def test_decode_avif_is_written(shared: httpx.Client, real_files: dict[str, bytes]) -> None:
    answer = shared.post("/decode", content=real_files["colour"], headers={"Accept": "image/avif"})
    assert answer_pixels(answer).shape == (37, 45, 3)


def test_decode_jpeg_alpha_is_blended_with_white(shared: httpx.Client, codec: sdtrt.Codec) -> None:
    clear = codec.encode(np.zeros((16, 16, 4), np.uint8))
    answer = shared.post("/decode", content=clear, headers={"Accept": "image/jpeg"})
    assert answer_pixels(answer).min() == 255


def test_decode_several_accept_headers_are_joined(shared: httpx.Client, real_files: dict[str, bytes]) -> None:
    lines = [("Accept", "text/html"), ("Accept", "image/webp")]
    assert shared.post("/decode", content=real_files["colour"], headers=lines).headers["content-type"] == "image/webp"


def test_decode_image_too_wide_for_a_type_uses_the_next(shared: httpx.Client, codec: sdtrt.Codec) -> None:
    data = codec.encode(np.zeros((8, 17000, 3), np.uint8))
    both = shared.post("/decode", content=data, headers={"Accept": "image/webp, image/png;q=0.5"})
    assert both.headers["content-type"] == "image/png"
    assert problem(shared.post("/decode", content=data, headers={"Accept": "image/webp"}))[0] == 406


def test_encode_damaged_image_is_a_client_error(shared: httpx.Client, photo: Photo) -> None:
    rng = np.random.default_rng(4)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF")[: 6 if features.check("avif") else 5]:
        whole = np.frombuffer(stored(photo(24, 16), kind), np.uint8)
        for _ in range(25):
            broken = whole.copy()
            broken[rng.integers(0, len(whole), 4)] = rng.integers(0, 256, 4)
            assert shared.post("/encode?effort=1", content=broken.tobytes()).status_code in {200, 413, 415, 422}


def test_decode_no_accepted_type_is_406(shared: httpx.Client, real_files: dict[str, bytes]) -> None:
    for accept in ("text/html", "image/png;q=0", "image/heic, text/*"):
        answer = shared.post("/decode", content=real_files["colour"], headers={"Accept": accept})
        assert problem(answer)[0] == 406


def test_info_verify_latents_equal_the_python_api(
    shared: httpx.Client, codec: sdtrt.Codec, real_files: dict[str, bytes]
) -> None:
    for data in real_files.values():
        said = shared.post("/info", content=data).json()
        about = sdtrt.info(data)
        assert (said["width"], said["quality"], said["bytes_by_section"]) == (
            about.width,
            about.quality,
            about.bytes_by_section,
        )
        assert shared.post("/verify", content=data).json() == {"whole": True}
        latents = np.load(io.BytesIO(shared.post("/latents", content=data).content), allow_pickle=False)
        np.testing.assert_array_equal(latents, codec.decode_latents(data))


def test_operations_damaged_body_is_a_client_error(
    shared: httpx.Client, real_files: dict[str, bytes], photo: Photo
) -> None:
    data = real_files["layers"]
    for path in ("/decode", "/info", "/verify", "/latents", "/decode?preview=8", "/decode?region=8x8%2B0%2B0"):
        for body in (data[:-1], data[:50] + b"\0" + data[51:], b"not a file"):
            assert problem(shared.post(path, content=body))[0] == 422
    assert problem(shared.post("/encode", content=data))[0] == 415
    assert problem(shared.post("/encode", content=b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"))[0] == 415
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF"):
        whole = stored(photo(45, 37), kind)
        assert problem(shared.post("/encode", content=whole[: len(whole) // 2]))[0] in {415, 422}
    assert problem(shared.post("/encode"))[0] == 422
    assert problem(shared.post("/encode", files={"image": stored(photo(8, 8))}))[0] == 415


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("quality=0", "1 to 100"),
        ("quality=nan", "1 to 100"),
        ("quality=inf", "1 to 100"),
        ("quality=1e999", "1 to 100"),
        ("quality=1_0", "1 to 100"),
        ("quality=%D9%A5%D9%A0", "1 to 100"),  # digits of another script
        ("quality=", "1 to 100"),
        ("effort=1_0", "1 to 9"),
        ("max_bytes=" + "9" * 5000, "expected 1 to"),
        ("roi=" + "9" * 5000 + "x1%2B0%2B0", "such as 800x600"),
        ("quality=50&quality=60", "given twice"),
        ("qualty=50", "expected one of: quality, max_bytes"),
        ("effort=2.5", "1 to 9"),
        ("strip=yes", "true or false"),
        ("roi=1x1", "such as 800x600"),
        ("roi=64x64%2B0%2B0", "not within"),
        ("max_bytes=10", "bytes"),
        ("quality=50&max_bytes=1000", "one of"),
    ],
)
def test_encode_invalid_parameter_is_422(shared: httpx.Client, photo: Photo, query: str, words: str) -> None:
    status, detail = problem(shared.post(f"/encode?{query}", content=stored(photo(24, 24))))
    assert status == 422
    assert words in detail
    assert len(detail) < 300


def test_decode_invalid_parameter_is_422(shared: httpx.Client, real_files: dict[str, bytes]) -> None:
    for query in (
        "preview=8&width=9",
        "preview=8&region=8x8%2B0%2B0",
        "region=99x99%2B0%2B0",
        "look=pretty",
        "width=0",
    ):
        assert problem(shared.post(f"/decode?{query}", content=real_files["colour"]))[0] == 422


def test_routes_unknown_path_or_method_is_a_problem(shared: httpx.Client) -> None:
    assert problem(shared.get("/nothing"))[0] == 404
    assert problem(shared.get("/encode"))[0] == 405
    assert problem(shared.delete("/"))[0] == 405


def test_health_and_readiness_are_reported(shared: httpx.Client) -> None:
    assert shared.get("/healthz").json() == {"status": "ok"}
    while (answer := shared.get("/readyz")).status_code != 200:
        assert problem(answer)[0] == 503
    assert answer.json() == {"status": "ready"}


def test_metrics_count_requests(shared: httpx.Client, real_files: dict[str, bytes]) -> None:
    def count(line: str) -> float:
        found = [row for row in shared.get("/metrics").text.splitlines() if row.startswith(line)]
        return float(found[0].split()[-1]) if found else 0

    line = 'sdtrt_requests_total{operation="verify",status="200"}'
    before = count(line)
    shared.post("/verify", content=real_files["colour"])
    assert count(line) == before + 1
    assert count("sdtrt_places_taken") == 0
    assert count('sdtrt_request_seconds_count{operation="verify"}') >= before + 1


def test_responses_have_security_headers(shared: httpx.Client, real_files: dict[str, bytes]) -> None:
    answers = [shared.get(path) for path in ("/", "/healthz", "/nothing", "/files/colour.sdt", "/openapi.json")]
    answers += [shared.post(path, content=real_files["colour"]) for path in ("/decode", "/encode", "/info")]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_openapi_document_matches_the_routes(shared: httpx.Client) -> None:
    said = shared.get("/openapi.json").json()
    assert said == json.loads(json.dumps(openapi.document()))
    answers = {("/", "get"): 200, ("/files/{name}", "get"): 404}
    for path, methods in said["paths"].items():
        for method, operation in methods.items():
            answer = shared.request(method, path)
            assert answer.status_code not in {405, 500}
            assert answer.status_code == answers.get((path, method), answer.status_code)
            assert str(answer.status_code) in operation["responses"]
    for operation in OPERATIONS:
        for parameter in operation.parameters:
            assert (parameter.name in str(said["paths"][openapi.openapi_path(operation.path)])) is True
