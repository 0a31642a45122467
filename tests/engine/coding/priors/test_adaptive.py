"""The adaptive prior: a context computed by hand, and invalid parameters."""

import numpy as np
import pytest

from sdtrt.engine.coding.priors.adaptive import AdaptivePrior
from sdtrt.errors import FormatError


@pytest.mark.parametrize("parameters", [(9, 0, 0), (0, 32, 0), (0, 0, 32), (255, 255, 255)])
def test_adaptive_parameters_out_of_range_raise(parameters: tuple[int, int, int]) -> None:
    with pytest.raises(FormatError, match="range"):
        AdaptivePrior(np.array([(0, 0, 0), parameters], np.uint8))


def test_adaptive_context_by_hand() -> None:
    prior = AdaptivePrior(np.array([(8, 3, 20), (4, 0, 7)], np.uint8))
    planes = prior.planes((2, 4, 4), 2048)
    passes = prior.passes(2)
    first = prior.context(passes[0], planes, 0)
    assert first.location.tolist() == [[0], [0]]
    assert first.scale.tolist() == [[20], [7]]
    planes.put(passes[0], np.array([[5], [-6]], np.int32))
    second = prior.context(passes[1], planes, 1)
    # Of the four diagonal neighbours one is known and inside: means (40 + 2) // 4 = 10 and (-48 + 2) // 4 = -12.
    assert second.location.tolist() == [[10], [-6]]
    # Magnitudes 41 and 45, mean 41 * 8 // 4 = 82 and 90, widening by 82 * 3 >> 7 = 1 and 90 * 3 >> 7 = 2.
    assert second.scale.tolist() == [[4], [2]]
