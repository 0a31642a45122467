"""The interface of priors.

"Prior" is sdtrt's word for the entropy model of the literature, together with its context model. A prior computes the
distribution of the next symbols from the known ones. Here a distribution is a location and a scale. All arithmetic is
in integers, so that encoder and decoder agree on every machine.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

from sdtrt._arrays import I8Array, I32Array, IndexArray, U32Array
from sdtrt.engine.coding.priors.network_prior import NetworkPrior, prior_from_arrays
from sdtrt.engine.coding.priors.passes import NO_INNER_EDGES, InnerEdges, Pass
from sdtrt.engine.coding.priors.tables import Context, load_prior_file


class ContextPlanes(Protocol):
    """The symbols of a tile that are known so far, in the form that a prior needs."""

    def put(self, coding_pass: Any, symbols: I32Array, origin: I32Array | None = None) -> None:
        """Store the symbols of a pass, int32 (channels of the pass, positions), and the origin of its context."""


class Prior(Protocol):
    """An entropy model. `AdaptivePrior` and `NetworkPrior` implement it."""

    tables: U32Array

    @property
    def cuts(self) -> tuple[int, ...]:
        """The number of passes up to the end of each level but the last, rising."""

    @property
    def centroids(self) -> I8Array | None:
        """Reconstruction offsets of the bins, int8 of the tables' shape, in 1/64 step; None without any."""

    @property
    def has_recon_offsets(self) -> bool:
        """Whether the prior gives a reconstruction offset for each symbol."""

    def order(self, channels: int) -> IndexArray:
        """Return the channels in coding order; `FormatError` if the prior is for another number of channels."""

    def passes(self, channels: int) -> Sequence[Pass]:
        """Return the passes over `channels` channels."""

    def planes(self, shape: tuple[int, int, int], step_code: int, inner: InnerEdges = NO_INNER_EDGES) -> ContextPlanes:
        """Return planes (C, h, w) of a tile of which no symbol is known.

        Contexts that reach beyond an inner edge see the nearest known symbols; beyond other edges they see 0.
        """

    def context(self, coding_pass: Any, planes: Any, number: int) -> Context:
        """Return the context of a pass.

        Arguments:
            coding_pass: one of `passes`.
            planes: as of `planes` of the same prior, after `put` of all earlier passes.
            number: index of the pass among `passes`.
        """


@cache
def shipped_prior(name: str) -> NetworkPrior:
    """Return a shipped prior by its name, such as `tiny-1`; `BundleError` if there is none."""
    return prior_from_arrays(load_prior_file(name))
