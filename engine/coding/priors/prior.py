"""Priors: from what is already known to the context (location and scale) of the next symbols, in integers."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sdtrt.engine.coding.priors.latents import LatentPrior, latent_prior
from sdtrt.engine.coding.priors.passes import OUTER, Inner
from sdtrt.engine.coding.priors.tables import Context, load_arrays


class Prior(Protocol):
    """What the entropy coder needs to know."""

    tables: NDArray[np.uint32]

    @property
    def cuts(self) -> tuple[int, ...]:
        """After how many passes each level ends, from the coarsest to the last but one."""

    @property
    def centroids(self) -> NDArray[np.int8] | None:
        """Reconstruction points, int8 like the tables, in 1/64 step from each symbol; None if the prior has none."""

    @property
    def has_points(self) -> bool:
        """Whether it tells where latents lie beside their symbols."""

    def order(self, channels: int) -> NDArray[np.intp]:
        """Return the channels in coding order; `FormatError` if the prior is not for so many."""

    def passes(self, channels: int) -> Sequence[Any]:
        """Return the passes over `channels` channels."""

    def planes(self, shape: tuple[int, int, int], step_code: int, inner: Inner = OUTER) -> Any:
        """Return planes (C, h, w) of which nothing is known; `put` them each pass's symbols, and its context's origin.

        Beyond `inner` edges they stand for what is nearest to them, and for 0 beyond others.
        """

    def context(self, step: Any, planes: Any, number: int) -> Context:
        """Return the context of pass `number`."""


@cache
def network_prior(name: str) -> LatentPrior:
    """Return a shipped prior by its name, such as `tiny-1`; `BundleError` if there is none."""
    return latent_prior(load_arrays(name))
