"""Sampling along rays."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nldf_engine.rendering.volume import resample_distances, sample_lengths, stratified_distances


@settings(max_examples=20, deadline=None)
@given(rays=st.integers(0, 5), samples=st.integers(1, 9), perturb=st.booleans())
def test_strata_are_increasing_and_inside(rays: int, samples: int, perturb: bool) -> None:
    """One distance to a stratum, in order, between near and far."""
    torch.manual_seed(0)
    t = stratified_distances(rays, samples, 0.5, 1.5, torch.zeros(1), perturb)
    edges = torch.linspace(0.5, 1.5, samples + 1)
    assert t.shape == (rays, samples)
    assert bool(((t >= edges[:-1] - 1e-6) & (t <= edges[1:] + 1e-6)).all())


def test_resampling_goes_where_the_weight_is() -> None:
    """With all weight on one sample, the new distances fall about it, sorted."""
    t = torch.linspace(0, 1, 21)[None]
    weights = torch.zeros(1, 21)
    weights[0, 10] = 1
    for perturb in (False, True):
        drawn = resample_distances(t, weights, 64, perturb)
        assert float((drawn - 0.5).abs().median()) < 0.03
        assert bool((drawn[:, 1:] >= drawn[:, :-1]).all())


def test_resampling_follows_the_distribution() -> None:
    """The share of draws below a quantile is the distribution's, within the sampling error."""
    torch.manual_seed(0)
    t = torch.linspace(0, 1, 65).expand(200, 65)
    weights = torch.linspace(0, 1, 65).expand(200, 65)
    drawn = resample_distances(t, weights, 256, True)
    assert abs(float((drawn < 0.5).float().mean()) - 0.25) < 0.01


def test_lengths_cover_the_ray_to_its_end() -> None:
    """Sample lengths add up from the first sample to far."""
    t = torch.sort(torch.rand(4, 9), 1).values
    torch.testing.assert_close(sample_lengths(t, 1.5).sum(1), 1.5 - t[:, 0])
