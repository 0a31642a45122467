"""The walk over the passes of a prior: the one loop that encoder, decoder, searches and fitting share.

A prior codes the symbols of a tile in passes. The context of a pass depends on the symbols of the passes before it. So
each loop over passes has the same shape: get the context of a pass, choose or read its symbols, hand the symbols over.
"""

from collections.abc import Iterator
from typing import Any

from sdtrt._arrays import I32Array
from sdtrt.engine.coding.priors.passes import NO_INNER_EDGES, InnerEdges, Pass, non_empty
from sdtrt.engine.coding.priors.prior import Prior
from sdtrt.engine.coding.priors.tables import Context


class PassVisit:
    """One pass of a walk.

    Attributes:
        number: index of the pass among all passes of the prior, also those without positions in this tile.
        coding_pass: channels and positions of the pass.
        planes: the symbols that are known so far, in the form that the prior keeps them.
    """

    __slots__ = ("_origin", "_prior", "coding_pass", "number", "planes")

    def __init__(self, number: int, coding_pass: Pass, planes: Any, prior: Prior) -> None:
        self.number, self.coding_pass, self.planes = number, coding_pass, planes
        self._prior = prior
        self._origin: I32Array | None = None

    def context(self) -> Context:
        """Compute the context of the pass from the symbols that were put so far."""
        context = self._prior.context(self.coding_pass, self.planes, self.number)
        self._origin = context.origin
        return context

    def put(self, symbols: I32Array) -> None:
        """Make the symbols of the pass known to later passes.

        Arguments:
            symbols: int32 (channels of the pass, positions). The symbols of a predicted pass are relative to the origin
                of its context, so `context` must have been called before.
        """
        self.planes.put(self.coding_pass, symbols, self._origin)


def walk_passes(
    prior: Prior, shape: tuple[int, int, int], step_code: int, edges: InnerEdges = NO_INNER_EDGES
) -> Iterator[PassVisit]:
    """Yield the passes that have positions in a tile, from coarse to fine.

    A pass whose symbols are all 0 need not be put: unknown symbols count as 0.

    Arguments:
        prior: the entropy model.
        shape: (channels, rows, columns) of the tile's latents.
        step_code: code of the quantization step, 0 to 4095.
        edges: which edges of the tile touch another tile.
    """
    planes = prior.planes(shape, step_code, edges)
    for number, coding_pass in non_empty(prior.passes(shape[0]), *shape[1:]):
        yield PassVisit(number, coding_pass, planes, prior)
