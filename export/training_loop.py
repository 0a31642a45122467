"""The training loop of all trainings: Adam, averaged weights, and checkpoints from which a run is resumed.

Training runs on the model's device. On a GPU the kernels of an iteration are captured once in a CUDA graph and
replayed, because launching the kernels of such small networks takes longer than running them. An iteration's batch
depends only on its number and the seed, so threads prepare batches ahead.
"""

import argparse
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sdtrt.atomic import replacing
from sdtrt.process.threads import available_cpus

REPORT_EVERY = 50
SAVE_EVERY = 60.0  # seconds
RUNS_BEFORE_CAPTURE = 4  # until then libraries choose their kernels and the optimizer creates its state

Batch = tuple[Tensor, ...]
Draw = Callable[[np.random.Generator], Batch]
Report = Callable[[int, int, str], None]  # (iterations done, all iterations, figures as text)
Figures = dict[str, Tensor]
Loss = Callable[..., tuple[Tensor, Figures]]  # a batch -> the loss, and figures to report by name
Advance = Callable[..., Figures]  # runs one iteration on a batch


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The hyperparameters of a training.

    Attributes:
        iterations: Number of iterations.
        learning_rate: Peak of the learning rate.
        warmup: Iterations of linear warm-up.
        batch: Samples of an iteration.
        crop: Side of a sample, in pixels or latents.
        ema_decay: Decay of the averaged weights for each iteration.
        max_grad_norm: Norm to which larger gradients are scaled down; None for no limit.
        seed: Seed of all random numbers.
    """

    iterations: int
    learning_rate: float
    warmup: int
    batch: int
    crop: int
    ema_decay: float
    max_grad_norm: float | None = 1.0
    seed: int = 1

    def rate(self, iteration: int) -> float:
        """Return the learning rate of an iteration: a linear warm-up, then half a cosine down to 1 % of the peak."""
        cosine = 0.5 + 0.5 * math.cos(math.pi * iteration / self.iterations)
        return self.learning_rate * min(1, (iteration + 1) / self.warmup) * (0.01 + 0.99 * cosine)


class TrainingRun:
    """A model in training, with its averaged weights and optimizer; resumes from the checkpoint in `folder`."""

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        trained: nn.Module,
        config: TrainingConfig,
        rate_factors: Iterable[tuple[Iterable[nn.Parameter], float]] = (),
    ) -> None:
        """Start a run, or resume it.

        Arguments:
            folder: Folder of the checkpoint.
            model: The model whose weights are averaged and saved.
            trained: The part of `model` whose parameters are trained.
            config: The hyperparameters.
            rate_factors: Groups of parameters, each with the factor of its learning rate. Others have factor 1.
        """
        self.folder, self.config = folder, config
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: value.clone() for name, value in model.state_dict().items()}
        self.trained = trained
        self.device = next(model.parameters()).device
        if self.device.type == "cuda":  # convolution algorithms are chosen by timing, and compute in full float32
            torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, False
        parts = [([*part], scale) for part, scale in rate_factors]
        apart = {id(parameter) for part, _ in parts for parameter in part}
        parts.insert(0, ([p for p in trained.parameters() if id(p) not in apart], 1.0))
        # Learning rates are tensors because a CUDA graph reads them at each replay; every group has its own tensor.
        rates = [torch.tensor(0.0, device=self.device) for _ in parts]
        groups = [{"params": p, "scale": scale, "lr": r} for (p, scale), r in zip(parts, rates, strict=True)]
        self.optimizer = torch.optim.Adam(groups, fused=True, capturable=self.device.type == "cuda")
        self.iteration = 0
        if (folder / "checkpoint.pt").exists():
            self._restore()

    def train(
        self,
        draw: Draw,
        loss_of: Loss,
        after_step: Callable[[], None] | None = None,
        report: Report | None = None,
    ) -> None:
        """Train until `config.iterations`, and save a checkpoint every `SAVE_EVERY` seconds.

        Arguments:
            draw: Returns the batch of an iteration, given its random generator.
            loss_of: Returns the loss and the figures of a batch.
            after_step: Called after each step of the optimizer, for example to constrain weights.
            report: Called every `REPORT_EVERY` iterations; None prints the figures to standard output.
        """
        advance = self._advance(loss_of, after_step)
        started, first, totals = time.monotonic(), self.iteration, dict[str, Tensor | float]()
        saved = started
        for batch in self._drawn(draw):
            for name, value in self._iterate(batch, advance).items():
                totals[name] = totals.get(name, 0.0) + value / REPORT_EVERY
            if self.iteration % REPORT_EVERY == 0:
                figures = " ".join(f"{name} {float(value):.4f}" for name, value in totals.items())
                if report:
                    report(self.iteration, self.config.iterations, figures)
                else:
                    pace = (time.monotonic() - started) / (self.iteration - first)
                    print(f"{self.iteration} {figures} {pace:.2f} s/iteration", flush=True)
                totals.clear()
            if time.monotonic() - saved >= SAVE_EVERY or self.iteration == self.config.iterations:
                self._save()
                saved = time.monotonic()

    def _drawn(self, draw: Draw) -> Iterator[Batch]:
        """Yield the batches of all remaining iterations; threads draw them ahead on spare cores."""
        threads = max(1, available_cpus() - 2)
        ahead = deque[Future[Batch]]()
        with ThreadPoolExecutor(threads) as pool:
            for iteration in range(self.iteration, self.config.iterations):
                ahead.append(pool.submit(draw, np.random.default_rng((self.config.seed, iteration))))
                if len(ahead) > 2 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _advance(self, loss_of: Loss, after_step: Callable[[], None] | None) -> Advance:
        def advance(*batch: Tensor) -> Figures:
            loss, figures = loss_of(*batch)
            self.optimizer.zero_grad()
            loss.backward()
            if self.config.max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.trained.parameters(), self.config.max_grad_norm)
            self.optimizer.step()
            if after_step:
                after_step()
            return {name: value.detach() for name, value in figures.items()}

        return CudaGraphStep(advance) if self.device.type == "cuda" else advance

    def _iterate(self, batch: Batch, advance: Advance) -> Figures:
        for group in self.optimizer.param_groups:
            group["lr"].fill_(self.config.rate(self.iteration) * group["scale"])
        if self.device.type == "cuda":
            batch = tuple(part.pin_memory().to(self.device, non_blocking=True) for part in batch)
        figures = advance(*batch)
        self._update_average()
        self.iteration += 1
        return figures

    def _update_average(self) -> None:
        decay = min(self.config.ema_decay, self.iteration / (self.iteration + 10))
        average = get_ema_multi_avg_fn(decay)
        average([*self.average.values()], [*self.model.state_dict().values()], self.iteration)

    def _save(self) -> None:
        """Write the checkpoint atomically."""
        state = {
            "iteration": self.iteration,
            "recipe": asdict(self.config),  # the key that older checkpoints have
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "torch_rng": torch.get_rng_state(),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / "checkpoint.pt") as file:
            torch.save(state, file)

    def _restore(self) -> None:
        state = torch.load(self.folder / "checkpoint.pt", weights_only=True, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.average.update(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch_rng"].cpu())
        self.iteration = int(state["iteration"])


class CudaGraphStep:
    """An iteration on a GPU, captured in a CUDA graph after a few runs and replayed from then on.

    All batches must have the same shapes, and the iteration must not synchronise with the GPU. Each call overwrites the
    figures of the call before.
    """

    def __init__(self, advance: Advance) -> None:
        self.advance = advance
        self.graph, self.stream, self.calls = torch.cuda.CUDAGraph(), torch.cuda.Stream(), 0
        self.batch: Batch = ()
        self.figures: Figures = {}

    def __call__(self, *batch: Tensor) -> Figures:
        self.calls += 1
        if self.calls <= RUNS_BEFORE_CAPTURE:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                figures = self.advance(*batch)
            torch.cuda.current_stream().wait_stream(self.stream)
            return figures
        if not self.batch:
            self.batch = tuple(part.clone() for part in batch)
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.figures = self.advance(*self.batch)
        for captured, part in zip(self.batch, batch, strict=True):
            captured.copy_(part)
        self.graph.replay()
        return self.figures


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add `--device`, the name of a PyTorch device."""
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default, help="where to train: cpu, cuda; the GPU if there is one")


def averaged_weights(folder: Path, part: str = "") -> dict[str, Tensor]:
    """Return the averaged weights of the run in `folder`.

    With `part`, only the weights of that submodule are returned if the run trained several submodules.
    """
    file, prefix = folder / "checkpoint.pt", f"{part}."
    weights: dict[str, Tensor] = torch.load(file, weights_only=True, map_location="cpu")["average"]
    of_part = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    return of_part or weights
