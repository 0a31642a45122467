"""Priors: from what is already known to the context (location and scale) of the next symbols, in integers."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

from sdtrt._arrays import I8Array, IndexArray, U32Array
from sdtrt.engine.coding.priors.network_prior import NetworkPrior, prior_from_arrays
from sdtrt.engine.coding.priors.passes import NO_INNER_EDGES, InnerEdges
from sdtrt.engine.coding.priors.tables import Context, load_prior_file


class Prior(Protocol):
    """What the entropy coder needs to know."""

    tables: U32Array

    @property
    def cuts(self) -> tuple[int, ...]:
        """After how many passes each level ends, from the coarsest to the last but one."""

    @property
    def centroids(self) -> I8Array | None:
        """Reconstruction points, int8 like the tables, in 1/64 step from each symbol; None if the prior has none."""

    @property
    def has_recon_offsets(self) -> bool:
        """Whether it tells where latents lie beside their symbols."""

    def order(self, channels: int) -> IndexArray:
        """Return the channels in coding order; `FormatError` if the prior is not for so many."""

    def passes(self, channels: int) -> Sequence[Any]:
        """Return the passes over `channels` channels."""

    def planes(self, shape: tuple[int, int, int], step_code: int, inner: InnerEdges = NO_INNER_EDGES) -> Any:
        """Return planes (C, h, w) of which nothing is known; `put` them each pass's symbols, and its context's origin.

        Beyond `inner` edges they stand for what is nearest to them, and for 0 beyond others.
        """

    def context(self, coding_pass: Any, planes: Any, number: int) -> Context:
        """Return the context of pass `number`."""


@cache
def shipped_prior(name: str) -> NetworkPrior:
    """Return a shipped prior by its name, such as `tiny-1`; `BundleError` if there is none."""
    return prior_from_arrays(load_prior_file(name))
