"""Tables of bytes against image quality or error of latents."""

import json

from figures.text import ROOT, cell, load_results, markdown, source

PROFILES = {"sd1": "sd1-1", "tiny": "tiny-1"}


def rate_distortion() -> str:
    return f"{at_rates('psnr')}\n\n{source(load_results('rate_distortion'))}"


def ms_ssim() -> str:
    return at_rates("ms_ssim")


def ssimulacra2() -> str:
    return at_rates("ssimulacra2")


def at_rates(metric: str) -> str:
    rows = load_results("rate_distortion")["at_rates"]
    codecs = list(rows[0][metric])
    digits = 4 if metric == "ms_ssim" else 2
    cells = [[f"{row['bpp']:.2f}", *(cell(row[metric][c], digits) for c in codecs)] for row in rows]
    return markdown(["bits per pixel", *codecs], cells)


def effort() -> str:
    results = load_results("effort")
    digits = {"psnr": 2, "ms_ssim": 4, "ssimulacra2": 1, "seconds": 2}
    rows = [[row["method"], *(cell(row[figure], count) for figure, count in digits.items())] for row in results["rows"]]
    head = [f"{results['bpp']} bits per pixel", "PSNR dB", "MS-SSIM", "SSIMULACRA2", "seconds to encode"]
    return f"{markdown(head, rows)}\n\n{source(results)}"


def rate() -> str:
    results = load_results("rate")
    rows = [
        [row["method"], f"{row['bytes']:,}", f"{row['mse']:.2g}", f"{row['ms']:.0f}" if "ms" in row else ""]
        for row in results["rows"]
    ]
    head = ["4x64x64 latents of 512x512 pixels", "bytes", "mean squared error", "ms to encode and decode"]
    ratio = (
        f"The payload is {results['over_cross_entropy']:.3f} times the cross-entropy of the symbols "
        "under the prior's tables."
    )
    return f"{markdown(head, rows)}\n\n{ratio}\n{source(results)}"


def latent_error() -> str:
    rows = [
        [f"{row['quality']}", f"{row['bytes']:,}", f"{row['mse']:.2g}", f"{row['relative']:.1%}"]
        for row in load_results("rate")["qualities"]
    ]
    return markdown(["quality", "bytes", "mean squared error", "error over latents, rms"], rows)


def steps() -> str:
    folder = ROOT / "engine" / "data" / "profiles"
    profiles = [json.loads((folder / f"{name}.json").read_text()) for name in PROFILES.values()]
    rows = []
    for quality in (1, 10, 25, 50, 75, 90, 100):
        codes = [p["step_codes"][0] + (p["step_codes"][1] - p["step_codes"][0]) * (quality - 1) / 99 for p in profiles]
        rows.append([f"{quality}", *(f"{2 ** ((round(code) - 2048) / 256):.3f}" for code in codes)])
    return markdown(["quality", *(f"step of {space}" for space in PROFILES)], rows)


def blockiness() -> str:
    results = load_results("blockiness")
    rows = [
        [f"{row['quality']}", *(f"{row[c]:.3f}" for c in ("original", "sdtrt", "JPEG"))]
        for row in results["border_step_over_inside_step"]
    ]
    return markdown(["quality", "original", "sdtrt", "JPEG of as many bytes"], rows)


def strip() -> str:
    codecs = ("sdtrt", "AVIF", "WebP", "JPEG")
    rows = [
        [f"{row['photo']}, {row['bpp']:.2f}", *(f"{row[c]['bytes']:,} / {row[c]['psnr']:.2f}" for c in codecs)]
        for row in load_results("strip")["rows"]
    ]
    return markdown(["bits per pixel: bytes / PSNR dB", *codecs], rows)


def denoise_sd1() -> str:
    return denoising("denoise_sd1")


def denoise_tiny() -> str:
    return denoising("denoise_tiny")


def denoising(name: str) -> str:
    results = load_results(name)
    head = ["files", "bytes", "steps", "error of latents", "PSNR dB", "MS-SSIM", "SSIMULACRA2"]
    rows = []
    for r in results["rows"]:
        about = r["files"], f"{r['bytes']:,.0f}", f"{r['steps'] or 'none'}"
        likeness = f"{r['psnr']:.2f}", f"{r['ms_ssim']:.4f}", f"{r['ssimulacra2']:.1f}"
        rows.append([*about, f"{r['error']:.4f}", *likeness])
    return f"{markdown(head, rows)}\n\n{source(results)}"


TABLES = {
    "rate_distortion": rate_distortion,
    "ms_ssim": ms_ssim,
    "ssimulacra2": ssimulacra2,
    "effort": effort,
    "rate": rate,
    "latent_error": latent_error,
    "steps": steps,
    "blockiness": blockiness,
    "strip": strip,
    "denoise_sd1": denoise_sd1,
    "denoise_tiny": denoise_tiny,
}
