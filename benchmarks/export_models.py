"""Export at true size, with random weights: time, memory, size and agreement of the networks with torch, without a GPU.

    python benchmarks/export_models.py families FOLDER [--only NAME ...] [--fp16] [--minutes 4]
    python benchmarks/export_models.py sd1 FOLDER

families  the autoencoder of each family to ONNX, compared with torch; FOLDER takes about 5 GB
sd1       Stable Diffusion 1.x, also with its UNet, to a bundle and to TensorRT for RTX engines; about 12 GB

FOLDER is left empty. Each family, and each command, runs in a process of its own, so that its peak memory is its own. A
family is given up after `--minutes`. The configurations are those published with the weights.
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

from harness import write_results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    families = commands.add_parser("families", help="the autoencoder of each family to ONNX")
    families.add_argument("folder", type=Path)
    families.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    families.add_argument("--fp16", action="store_true", help="write half precision as well")
    families.add_argument("--minutes", type=float, default=4, help="limit for one family (default 4)")
    families.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)  # one family, in this process
    commands.add_parser("sd1", help="Stable Diffusion 1.x to a bundle and engines").add_argument("folder", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "sd1":
        print(write_results("export_full_size", measure_sd1(arguments.folder)))
    elif arguments.in_process:
        print(json.dumps(export_family(*FAMILIES[arguments.only[0]], arguments.folder, half=arguments.fp16)))
    else:
        print(write_results("export_families", measure_families(arguments)))


# Families

SIDE = 256  # pixels
WIDTHS = {"block_out_channels": (128, 256, 512, 512)}
LEVELS = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
KL = LEVELS | WIDTHS | {"layers_per_block": 2}
WITHOUT_QUANT = {"use_quant_conv": False, "use_post_quant_conv": False}
FLUX2 = LEVELS | WIDTHS | {"latent_channels": 32}
PARTS = ("encoder", "decoder")
DC = {
    **{f"{part}_block_types": ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3 for part in PARTS},
    **{f"{part}_block_out_channels": (128, 256, 512, 512, 1024, 1024) for part in PARTS},
    **{f"{part}_qkv_multiscales": ((), (), (), (5,), (5,), (5,)) for part in PARTS},
    "encoder_layers_per_block": (2, 2, 2, 3, 3, 3),
    "decoder_layers_per_block": (3, 3, 3, 3, 3, 3),
    "downsample_block_type": "Conv",
    "upsample_block_type": "interpolate",
}
TINY = {"latent_channels": 4}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {  # class of diffusers and its configuration
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


def measure_families(arguments: argparse.Namespace) -> dict[str, Any]:
    rows = []
    for name in arguments.only:
        rows.append({"family": name, "class": FAMILIES[name][0], **measure_family(name, arguments)})
        print(rows[-1], file=sys.stderr, flush=True)
    return {"side": SIDE, "rows": rows}


def measure_family(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Export one family in a process of its own and return its figures, or `failed` with the reason."""
    folder = arguments.folder / "family"
    command = [sys.executable, __file__, "families", str(folder), "--in-process", "--only", name]
    command += ["--fp16"] * arguments.fp16
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 * arguments.minutes, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {arguments.minutes:g} minutes"}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def export_family(class_name: str, config: dict[str, Any], folder: Path, *, half: bool) -> dict[str, Any]:
    """Write both networks of an autoencoder as ONNX, compare them with torch at 256x256, and return the figures."""
    import diffusers
    import torch

    from sdtrt.export.build import coders, probe_pixels
    from sdtrt.export.checkpoints.checkpoint import load_autoencoder
    from sdtrt.export.graphs.bundle_part import BundlePart, ExportRecord, write_part

    torch.manual_seed(0)
    vae = getattr(diffusers, class_name)(**config)
    parameters = sum(parameter.numel() for parameter in vae.parameters())
    vae.save_pretrained(folder / "checkpoint")
    del vae
    started, written = time.monotonic(), ExportRecord()
    with torch.no_grad():
        encoder, decoder = coders(load_autoencoder(folder / "checkpoint"), "")
        pixels = probe_pixels(None, SIDE)
        latents = encoder(pixels)
        inputs = {"encoder": pixels[:1], "decoder": latents[:1]}
        expected = {"encoder": latents[:1], "decoder": decoder(latents[:1])}
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
        "files": onnx_sizes(folder),
        "parity": written.parity,
        "islands": written.islands,
        "whole": {name: compare_outputs(folder / f"{name}.onnx", inputs[name], expected[name]) for name in expected},
    }


def compare_outputs(path: Path, source: Any, expected: Any) -> dict[str, float]:
    """Return the mean and the largest difference from torch, relative to the root mean square, and the seconds."""
    import onnxruntime

    from sdtrt.export.graphs.parity import compare

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    started = time.monotonic()
    (output,) = session.run(None, {session.get_inputs()[0].name: source.numpy()})
    seconds = time.monotonic() - started
    parity = compare(output, expected.numpy())
    return {"mean": parity.mean, "largest": parity.largest, "seconds": round(seconds, 2)}


def onnx_sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each ONNX file and of each file of its weights."""
    return {path.name: path.stat().st_size for path in sorted(folder.glob("*.onnx*"))}


# Stable Diffusion 1.x

TARGETS = ("sm89", "sm120")
ENGINE_SHAPES = "512x512"
COMMAND = """
import resource, sys
from sdtrt.cli import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
sys.exit(code)
"""


def measure_sd1(folder: Path) -> dict[str, Any]:
    checkpoint, bundle = folder / "checkpoint", folder / "bundle"
    parameters = write_checkpoint(checkpoint)
    export = ("export", "--model", checkpoint, "--out", bundle, "--force")
    build = ("engines", "build", bundle, "--target", ",".join(TARGETS), "--shapes", ENGINE_SHAPES, "--json")
    commands = {
        "export of encoder and decoder": run_command(*export),
        "export of all three": run_command(*export, "--unet"),
        "engines": run_command(*build),
    }
    plans = json.loads(commands["engines"]["output"])
    figures = {
        "parameters": parameters,
        "steps": [
            {"step": name, "seconds": command["seconds"], "peak_nbytes": command["peak_nbytes"]}
            for name, command in commands.items()
        ],
        "files": onnx_sizes(bundle),
        "engines": [engine_figures(plan) for plan in plans],
        "parity": json.loads((bundle / "bundle.json").read_text())["parity"],
    }
    for path in (checkpoint, bundle):
        shutil.rmtree(path)
    return figures


def engine_figures(plan: dict[str, Any]) -> dict[str, Any]:
    key = plan["key"]
    return {
        **{name: key[name] for name in ("network", "target", "shapes")},
        "library": f"{key['builder']} {key['version']}",
        "seconds": plan["seconds"],
        "nbytes": plan["nbytes"],
    }


def run_command(*arguments: str | Path) -> dict[str, Any]:
    """Run `sdtrt` with `arguments`; return seconds, peak memory in bytes, and output; exit if the command fails."""
    started = time.monotonic()
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        sys.exit(done.stderr)
    seconds = round(time.monotonic() - started, 1)
    return {"seconds": seconds, "peak_nbytes": int(done.stderr.split()[-1]), "output": done.stdout}


def write_checkpoint(folder: Path) -> dict[str, int]:
    """Write a pipeline folder with SD 1.x's VAE, UNet and text encoder; return their numbers of parameters."""
    import diffusers
    import torch
    import transformers

    torch.manual_seed(0)
    text = transformers.CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    )
    parts = {
        "vae": diffusers.AutoencoderKL(**KL, latent_channels=4),
        "unet": diffusers.UNet2DConditionModel(cross_attention_dim=768),
        "text_encoder": transformers.CLIPTextModel(text),
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    scheduler = diffusers.DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    scheduler.save_pretrained(folder / "scheduler")
    write_tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer with the start and end of texts, which suffice for the empty prompt."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {"!": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77})
    )


if __name__ == "__main__":
    main()
