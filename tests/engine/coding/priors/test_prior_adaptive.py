"""The adaptive prior: its context by hand, and what is refused."""

import numpy as np
import pytest

from sdtrt.engine.coding.priors.adaptive import AdaptivePrior
from sdtrt.errors import FormatError


@pytest.mark.parametrize("parameters", [(9, 0, 0), (0, 32, 0), (0, 0, 32), (255, 255, 255)])
def test_adaptive_parameters_out_of_range(parameters: tuple[int, int, int]) -> None:
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
    # Of the four diagonal neighbours one is inside, the others are as that: means (160 + 2) // 4 and (-192 + 2) // 4.
    assert second.location.tolist() == [[40], [-24]]
    # Magnitudes 41 and 45, mean 4 * 41 * 8 // 4 = 328 and 360, widening by 328 * 3 >> 7 = 7 and 360 * 3 >> 7 = 8.
    assert second.scale.tolist() == [[10], [8]]
