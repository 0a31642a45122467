"""The command `compare`: figures, the report in a browser, the contact sheet."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from environment import HANG
from PIL import Image

from sdtrt import cli
from sdtrt.compare.baselines import BASELINES, encode_within
from sdtrt.compare.metrics import ssim

Run = Callable[..., subprocess.CompletedProcess[bytes]]
Photo = Callable[[int, int], np.ndarray]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def image_folder(tmp_path: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo(160, 120)).save("a <b> & c.png")
    Image.fromarray(photo(90, 130)).convert("LA").save("grey.png")
    Path("bad.png").write_text("not an image")
    return tmp_path


def test_compare_report_has_all_figures(image_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["a <b> & c.png", "grey.png"]
    assert cli.main(["compare", *names, "--json", "--png", "sheet.png", "-q", "40"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert set(first["others"]) == {"JPEG", "WebP", "AVIF"}
    assert first["others"]["JPEG"]["psnr"] > 10
    text = Path("compare.html").read_text("utf-8")
    assert "<h2>a &lt;b&gt; &amp; c.png (160x120)</h2>" in text
    assert "http" not in text.replace("https://cv.iptc.org", "")  # nothing is fetched
    assert text.count("<section>") == text.count("<svg") == 2
    for record in (first, second):
        assert f"<td>{record['bytes']:,}</td>" in text
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 5 * 160
        assert sheet.height > 250


def test_compare_bytes_limits_all_codecs(image_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "a <b> & c.png", "--json", "--max-bytes", "1500", "-o", "r.html"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["bytes"] <= 1500
    assert all(other["bytes"] <= record["bytes"] for other in record["others"].values())


def test_compare_roi_reports_its_gain(image_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.main(["compare", "a <b> & c.png", "--roi", "60x50+20+30", "--roi-weight", "64", "--json", "-o", "r.html"])
        == 0
    )
    (record,) = json.loads(capsys.readouterr().out)
    roi = record["roi"]
    assert roi["weight"] == 64
    # A gain of 1.4 to 1.9 dB. How a processor rounds moves it, for files of equal size differ by a few symbols.
    assert roi["region_with"] > roi["region_without"] + 0.5
    assert roi["rest_with"] < roi["rest_without"] - 1
    assert roi["region_with"] > roi["rest_with"]
    text = Path("r.html").read_text("utf-8")
    assert f"<td>{roi['region_with']:.2f}</td><td>{roi['rest_with']:.2f}</td>" in text
    assert f"<td>{roi['region_without']:.2f}</td><td>{roi['rest_without']:.2f}</td>" in text
    assert cli.main(["compare", "grey.png", "--roi", "90x130+0+0", "--json", "-f", "-o", "r.html"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["roi"]["rest_with"] is None
    assert "<td>-</td>" in Path("r.html").read_text("utf-8")


def test_compare_roi_outside_the_middle_is_refused(
    image_folder: Path, photo: Photo, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(photo(900, 40)).save("wide.png")
    for words, message in (
        ("60x40+0+0", "not in the middle"),
        ("60x41+0+0", "is 900x40"),
        ("grey.png", "mask of 90x130"),
    ):
        assert cli.main(["compare", "wide.png", "--roi", words, "-o", "r.html"]) == 1
        assert message in capsys.readouterr().err
    assert cli.main(["compare", "wide.png", "--roi", "60x40+20+0", "-o", "r.html"]) == 0  # 66 are left out


def test_compare_large_image_uses_its_middle(
    image_folder: Path, photo: Photo, capsys: pytest.CaptureFixture[str]
) -> None:
    """Baselines have limits: WebP allows at most 16383 pixels a side."""
    Image.fromarray(photo(160, 9)).resize((20000, 9)).save("long.png")
    assert cli.main(["compare", "long.png", "--json"]) == 0
    assert "long.png (20000x9; compared is the middle, 768x9)" in Path("compare.html").read_text("utf-8")


def test_compare_damaged_file_is_skipped(image_folder: Path, capsys: pytest.CaptureFixture[str], run_cli: Run) -> None:
    assert cli.main(["compare", "bad.png", "grey.png"]) == 1
    assert "bad.png: not an image file" in capsys.readouterr().err
    assert Path("compare.html").read_text("utf-8").count("<section>") == 1
    refused = run_cli("compare", "grey.png")  # it is there
    assert refused.returncode == 1
    assert b"compare.html exists; --force replaces it" in refused.stderr
    assert cli.main(["compare", "-f", "bad.png"]) == 1
    assert Path("compare.html").read_text("utf-8").count("<section>") == 1  # and stays, with nothing to write


@pytest.mark.parametrize("words", [["--max-bytes", "0"], ["-q", "0"], ["-q", "5", "--max-bytes", "9"]])
def test_compare_invalid_options_exit_with_2(words: list[str], image_folder: Path) -> None:
    try:
        code = cli.main(["compare", "grey.png", *words])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_compare_report_works_in_a_browser(width: int, image_folder: Path) -> None:
    """All images load, nothing is wider than the window, and each control works."""
    assert cli.main(["compare", "a <b> & c.png", "grey.png", "--quiet"]) == 0
    page = image_folder / "compare.html"
    page.write_text(page.read_text("utf-8").replace("</html>", f"<script>{PROBE}</script></html>"), "utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-quic",
        "--virtual-time-budget=60000",
    ]
    command = [CHROMIUM, *flags, f"--user-data-dir={image_folder / 'profile'}", f"--window-size={width},900"]
    done = subprocess.run([*command, "--dump-dom", page.as_uri()], capture_output=True, timeout=HANG, check=True)
    title = done.stdout.decode().rsplit("<title>", 1)[1].partition("</title>")[0]
    assert title == "shown switched split difference zoomed fits"


PROBE = """
addEventListener("load", () => {
  const found = [], section = document.querySelector("section"), find = name => section.querySelector(name);
  const set = (element, change) => { Object.assign(element, change);
    for (const kind of ["input", "change"]) element.dispatchEvent(new Event(kind)); };
  const images = [...document.images];
  if (images.every(image => image.naturalWidth > 0)) found.push("shown");
  const before = find(".other").src;
  set(section.querySelector('.codec[value="WebP"]'), {checked: true});
  if (find(".other").src !== before && find(".other").alt === "WebP") found.push("switched");
  set(find(".split"), {value: 20});
  if (getComputedStyle(find(".other")).clipPath.endsWith("20%)")) found.push("split");
  set(find(".difference-on"), {checked: true});
  if (getComputedStyle(find(".other")).mixBlendMode === "difference") found.push("difference");
  set(find(".zoom"), {value: "4"});
  if (find(".pair").getBoundingClientRect().width === 640) found.push("zoomed");
  if (document.documentElement.scrollWidth <= innerWidth) found.push("fits");
  document.title = found.join(" ");
});
"""


def test_ssim_equals_its_formula() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
    assert ssim(image, image) == 1
    assert ssim(image, 255 - image) < 0
    assert ssim(image[:1, :1], image[:1, :1]) == 1
    flat = np.full((16, 16, 3), 100, np.uint8)
    assert ssim(flat, flat + np.uint8(10)) == pytest.approx((2 * 100 * 110 + 6.5025) / (100**2 + 110**2 + 6.5025))


@pytest.mark.parametrize("name", BASELINES)
def test_encode_within_finds_the_largest_file_that_fits(name: str, photo: Photo) -> None:
    image = Image.fromarray(photo(120, 90))
    encode = BASELINES[name]
    smallest, largest = len(encode(image, 1)), len(encode(image, 100))
    middle = (smallest + largest) // 3
    quality, file = encode_within(encode, image, middle)
    assert smallest < len(file) <= middle
    assert 1 < quality < 100
    assert encode_within(encode, image, 1) == (1, encode(image, 1))
