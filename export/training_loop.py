"""The loop that all training shares: Adam, averaged weights, checkpoints that a run goes on from."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

REPORT_EVERY, SAVE_EVERY = 50, 250

Batch = tuple[Tensor, ...]
Draw = Callable[[np.random.Generator], Batch]
Report = Callable[[int, int, str], None]  # of iterations done, those of all, and figures in words
Loss = Callable[..., tuple[Tensor, dict[str, Tensor]]]  # of a batch: the loss, and figures to report by name


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides the outcome of a stage besides the photos and what it starts from."""

    iterations: int
    learning_rate: float
    warmup: int
    batch: int
    crop: int
    ema_decay: float
    largest_gradient: float | None = 1.0  # norm to which gradients are scaled down; None: they are left alone
    seed: int = 1

    def rate(self, iteration: int) -> float:
        """Return the learning rate of an iteration: a linear warm-up, then half a cosine down to 1 % of the peak."""
        cosine = 0.5 + 0.5 * math.cos(math.pi * iteration / self.iterations)
        return self.learning_rate * min(1, (iteration + 1) / self.warmup) * (0.01 + 0.99 * cosine)


class Run:
    """A model on its way, with the averaged weights that are kept of it; goes on from the checkpoint in `folder`."""

    def __init__(
        self, folder: Path, model: nn.Module, trained: nn.Module, recipe: Recipe, rng: np.random.Generator
    ) -> None:
        self.folder, self.recipe, self.rng = folder, recipe, rng
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: value.clone() for name, value in model.state_dict().items()}
        self.trained = trained
        self.optimizer = torch.optim.Adam(trained.parameters(), lr=recipe.learning_rate)
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
        """Train to the end of the recipe, on what `draw` gives; save now and then.

        `after_step` may put weights right that the optimizer has just moved. `report` is told now and then; without
        it figures go to standard output, with the pace.
        """
        started, first, totals = time.monotonic(), self.iteration, dict[str, float]()
        while self.iteration < self.recipe.iterations:
            for name, value in self._iterate(draw, loss_of, after_step).items():
                totals[name] = totals.get(name, 0.0) + value / REPORT_EVERY
            if self.iteration % REPORT_EVERY == 0:
                figures = " ".join(f"{name} {value:.4f}" for name, value in totals.items())
                if report:
                    report(self.iteration, self.recipe.iterations, figures)
                else:
                    pace = (time.monotonic() - started) / (self.iteration - first)
                    print(f"{self.iteration} {figures} {pace:.2f} s/iteration", flush=True)
                totals.clear()
            if self.iteration % SAVE_EVERY == 0 or self.iteration == self.recipe.iterations:
                self._save()

    def _iterate(self, draw: Draw, loss_of: Loss, after_step: Callable[[], None] | None) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.iteration)
        loss, figures = loss_of(*draw(self.rng))
        self.optimizer.zero_grad()
        loss.backward()
        if self.recipe.largest_gradient is not None:
            torch.nn.utils.clip_grad_norm_(self.trained.parameters(), self.recipe.largest_gradient)
        self.optimizer.step()
        if after_step:
            after_step()
        self._update_average()
        self.iteration += 1
        return {name: value.item() for name, value in figures.items()}

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.recipe.ema_decay, self.iteration / (self.iteration + 10))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)

    def _save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "iteration": self.iteration,
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "numpy_rng": self.rng.bit_generator.state,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(state, self.folder / "checkpoint.tmp")
        (self.folder / "checkpoint.tmp").replace(self.folder / "checkpoint.pt")

    def _restore(self) -> None:
        state = torch.load(self.folder / "checkpoint.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.update(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch_rng"])
        self.rng.bit_generator.state = state["numpy_rng"]
        self.iteration = int(state["iteration"])


def averaged_weights(folder: Path) -> dict[str, Tensor]:
    """Return the averaged weights of the run in `folder`."""
    weights: dict[str, Tensor] = torch.load(folder / "checkpoint.pt", weights_only=True)["average"]
    return weights
