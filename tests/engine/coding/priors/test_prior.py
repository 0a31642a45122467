"""Properties of every shipped prior."""

import numpy as np
import pytest

from sdtrt.engine.coding.priors.passes import positions_of
from sdtrt.engine.coding.priors.prior import shipped_prior
from sdtrt.engine.coding.priors.tables import LOCATION_LIMIT, NUM_BINS, NUM_SCALES, SUBSYMBOL_STEPS
from sdtrt.engine.format.latent_space import PRIOR_NAMES, PROFILE_NAMES
from sdtrt.engine.format.profile import shipped_profile
from sdtrt.errors import BundleError

CHANNELS = {"tiny-1": 40, "sd1-1": 4}


@pytest.mark.parametrize("name", PRIOR_NAMES.values())
@pytest.mark.parametrize("step_code", [0, 768, 2048, 3333, 4095])
def test_contexts_stay_in_range(name: str, step_code: int) -> None:
    prior = shipped_prior(name)
    channels = CHANNELS[name]
    rng = np.random.default_rng(6)
    planes = prior.planes((channels, 6, 7), step_code)
    for number, coding_pass in enumerate(prior.passes(channels)):
        context = prior.context(coding_pass, planes, number)
        positions = sum(part.stop - part.start for part, _, _ in positions_of(coding_pass.phase, 6, 7))
        assert context.location.shape == context.scale.shape == (coding_pass.stop - coding_pass.start, positions)
        assert context.location.dtype == context.scale.dtype == np.int32
        assert abs(context.location + 0.5).max() < LOCATION_LIMIT
        assert context.scale.min() >= 0
        assert context.scale.max() < NUM_SCALES
        planes.put(coding_pass, rng.choice([-32768, -1, 0, 32767], context.location.shape).astype(np.int32))


@pytest.mark.parametrize("name", PRIOR_NAMES.values())
def test_centroids_are_within_one_step(name: str) -> None:
    centroids = shipped_prior(name).centroids
    if centroids is not None:
        assert centroids.shape == (NUM_SCALES * SUBSYMBOL_STEPS, NUM_BINS)
        assert centroids.dtype == np.int8
        assert np.abs(centroids.astype(int)).max() <= 64


@pytest.mark.parametrize("identifier", PROFILE_NAMES)
def test_profiles_name_a_prior_for_their_channels(identifier: int) -> None:
    profile = shipped_profile(identifier)
    order = shipped_prior(PRIOR_NAMES[profile.prior]).order(profile.channels)
    assert sorted(order) == list(range(profile.channels))


def test_shipped_prior_of_unknown_name_raises() -> None:
    with pytest.raises(BundleError, match="nonesuch-9"):
        shipped_prior("nonesuch-9")
