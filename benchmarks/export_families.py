"""The autoencoder of each family at its true size, with random weights: checkpoint to ONNX, and run beside torch.

    python benchmarks/export_families.py FOLDER [--only NAME ...] [--fp16] [--minutes 4]

FOLDER takes some 5 GB and is left empty. Each family runs in a process of its own, so that its peak memory is its own,
and is given up after `--minutes`. The configs are those that are published with the weights. Weights are random: of
use for time, size, memory and agreement, not for pictures.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from report import write_results

SIDE = 256  # pixels
LEVELS = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
KL = LEVELS | {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
WITHOUT_QUANT = {"use_quant_conv": False, "use_post_quant_conv": False}
FLUX2 = LEVELS | {"block_out_channels": (128, 256, 512, 512), "latent_channels": 32}
EACH = ("encoder", "decoder")
DC = {
    **{f"{part}_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3 for part in EACH},
    **{f"{part}_block_out_channels": (128, 256, 512, 512, 1024, 1024) for part in EACH},
    **{f"{part}_qkv_multiscales": ((), (), (), (5,), (5,), (5,)) for part in EACH},
    "encoder_layers_per_block": (2, 2, 2, 3, 3, 3),
    "decoder_layers_per_block": (3, 3, 3, 3, 3, 3),
    "downsample_block_type": "Conv",
    "upsample_block_type": "interpolate",
}
TINY = {"latent_channels": 4}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "TAESD, TAESDXL": ("AutoencoderTiny", TINY),
    "TAESD3, TAEF1": ("AutoencoderTiny", TINY | {"latent_channels": 16}),
    "SD 1.x, SD 2.x, SDXL": ("AutoencoderKL", KL),
    "SD 3, FLUX.1": ("AutoencoderKL", KL | WITHOUT_QUANT | {"latent_channels": 16}),
    "FLUX.2": ("AutoencoderKLFlux2", FLUX2),
    "FLUX.2, small decoder": ("AutoencoderKLFlux2", FLUX2 | {"decoder_block_out_channels": (96, 192, 384, 384)}),
    "Qwen-Image": ("AutoencoderKLQwenImage", {}),
    "Wan 2.1": ("AutoencoderKLWan", {}),
    "Wan 2.2 5B": (
        "AutoencoderKLWan",
        {"base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "in_channels": 12, "out_channels": 12}
        | {"is_residual": True, "patch_size": 2, "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48},
    ),
    "Sana (DC-AE f32c32)": ("AutoencoderDC", DC),
    "AsymmetricAutoencoderKL x-2": (
        "AsymmetricAutoencoderKL",
        LEVELS
        | {"down_block_out_channels": (128, 256, 512, 512), "layers_per_down_block": 2}
        | {"up_block_out_channels": (256, 512, 1024, 1024), "layers_per_up_block": 5},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--fp16", action="store_true", help="half precision, too")
    parser.add_argument("--minutes", type=float, default=4, help="for one family (default 4)")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # the one family, in this process
    options = parser.parse_args()
    if options.here:
        print(json.dumps(exported(*FAMILIES[options.only[0]], options.folder, half=options.fp16)))
        return
    rows = []
    for name in options.only:
        rows.append({"family": name, "class": FAMILIES[name][0], **measured(name, options)})
        print(rows[-1], file=sys.stderr, flush=True)
    print(write_results("export_families", {"side": SIDE, "rows": rows}))


def measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what the export of one family takes and gives, or `failed` and why."""
    folder = options.folder / "family"
    command = [sys.executable, __file__, str(folder), "--here", "--only", name, *(["--fp16"] * options.fp16)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 * options.minutes, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {options.minutes:g} minutes"}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def exported(kind: str, config: dict[str, Any], folder: Path, *, half: bool) -> dict[str, Any]:
    """Write the two networks of an autoencoder as ONNX, run them at 256x256 beside torch, and return the figures."""
    import diffusers
    import torch

    from sdtrt.export.build import coders, probe_pixels
    from sdtrt.export.checkpoints.checkpoint import load_autoencoder
    from sdtrt.export.graphs.bundle_part import BundlePart, ExportRecord, write_part

    torch.manual_seed(0)
    vae = getattr(diffusers, kind)(**config)
    parameters = sum(parameter.numel() for parameter in vae.parameters())
    vae.save_pretrained(folder / "checkpoint")
    del vae
    started, written = time.monotonic(), ExportRecord()
    with torch.no_grad():
        encoder, decoder = coders(load_autoencoder(folder / "checkpoint"), "")
        pixels = probe_pixels(None, SIDE)
        latents = encoder(pixels)
        expected = {"encoder": latents[:1], "decoder": decoder(latents[:1])}
        sources = {"encoder": pixels[:1], "decoder": latents[:1]}
        parts = [BundlePart("encoder", encoder, {"pixels": pixels}, "latents")]
        parts += [BundlePart("decoder", decoder, {"latents": latents}, "pixels")]
        for part in parts:
            write_part(part, folder, written, half=half, quiet=True)
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "parameters": parameters,
        "latents": list(latents.shape[1:]),
        "seconds": round(seconds, 1),
        "peak_nbytes": peak,
        "files": {path.name: path.stat().st_size for path in sorted(folder.glob("*.onnx*"))},
        "parity": written.parity,
        "islands": written.islands,
        "whole": {name: compared(folder / f"{name}.onnx", sources[name], expected[name]) for name in expected},
    }


def compared(path: Path, source: Any, expected: Any) -> dict[str, float]:
    """Return how far a network is from torch at the whole size, in parts of the root mean square, and its time."""
    import onnxruntime

    from sdtrt.export.graphs.parity import compare

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    started = time.monotonic()
    (found,) = session.run(None, {session.get_inputs()[0].name: source.numpy()})
    seconds = time.monotonic() - started
    parity = compare(found, expected.numpy())
    return {"mean": parity.mean, "largest": parity.largest, "seconds": round(seconds, 2)}


if __name__ == "__main__":
    main()
