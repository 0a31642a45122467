"""Stable Diffusion 1.x at its true size, random weights: checkpoint to ONNX to TensorRT for RTX engines, without a GPU.

    python benchmarks/export_full_size.py FOLDER

FOLDER takes some 12 GB and is left empty. Each step runs in a process of its own, through the command line, so that
its peak memory is its own. Weights are random: of use for time, size and memory, not for pictures.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from report import write_results

TARGETS = ("sm89", "sm120")
SHAPES = "512x512"
STEP = """
import resource, sys
from sdtrt.cli import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
sys.exit(code)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    checkpoint, bundle = folder / "checkpoint", folder / "bundle"
    parameters = write_checkpoint(checkpoint)
    steps = {
        "export of encoder and decoder": timed("export", "--model", checkpoint, "--out", bundle, "--force"),
        "export of all three": timed("export", "--model", checkpoint, "--out", bundle, "--unet", "--force"),
        "engines": timed("engines", "build", bundle, "--target", ",".join(TARGETS), "--shapes", SHAPES, "--json"),
    }
    plans = json.loads(steps["engines"].pop("output"))
    about = json.loads((bundle / "bundle.json").read_text())
    figures = {
        "parameters": parameters,
        "steps": [{"step": name, **{k: v for k, v in step.items() if k != "output"}} for name, step in steps.items()],
        "files": {path.name: path.stat().st_size for path in sorted(bundle.glob("*.onnx*"))},
        "engines": [
            {
                "network": plan["key"]["network"],
                "target": plan["key"]["target"],
                "shapes": plan["key"]["shapes"],
                "library": f"{plan['key']['builder']} {plan['key']['version']}",
                "seconds": plan["seconds"],
                "nbytes": plan["nbytes"],
            }
            for plan in plans
        ],
        "parity": about["parity"],
    }
    print(write_results("export_full_size", figures))
    for path in (checkpoint, bundle):
        shutil.rmtree(path)


def write_checkpoint(folder: Path) -> dict[str, int]:
    """Write a pipeline's folder with SD 1.x's VAE, UNet and text encoder, and return their numbers of parameters."""
    import diffusers
    import torch
    import transformers

    torch.manual_seed(0)
    text = transformers.CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    )
    parts = {
        "vae": diffusers.AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
        ),
        "unet": diffusers.UNet2DConditionModel(cross_attention_dim=768),
        "text_encoder": transformers.CLIPTextModel(text),
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    diffusers.DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).save_pretrained(
        folder / "scheduler"
    )
    write_tokenizer(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer that knows how texts start and end: all that the empty prompt needs."""
    folder.mkdir(parents=True, exist_ok=True)
    words = {"!": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77})
    )


def timed(*arguments: str | Path) -> dict[str, Any]:
    """Run `sdtrt` with `arguments` and return its seconds, peak memory in bytes, and output."""
    started = time.monotonic()
    command = [sys.executable, "-c", STEP, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return {
        "seconds": round(time.monotonic() - started, 1),
        "peak_nbytes": int(done.stderr.split()[-1]),
        "output": done.stdout,
    }


if __name__ == "__main__":
    main()
