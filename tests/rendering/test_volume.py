"""Sampling along rays."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nldf_engine.rendering.volume import sample_lengths, stratified_distances


@settings(max_examples=20, deadline=None)
@given(rays=st.integers(0, 5), samples=st.integers(1, 9), perturb=st.booleans())
def test_strata_are_increasing_and_inside(rays: int, samples: int, perturb: bool) -> None:
    """One distance to a stratum, in order, between near and far."""
    noise = torch.Generator().manual_seed(0) if perturb else None
    t = stratified_distances(rays, samples, 0.5, 1.5, torch.zeros(1), noise)
    edges = torch.linspace(0.5, 1.5, samples + 1)
    assert t.shape == (rays, samples)
    assert bool(((t >= edges[:-1] - 1e-6) & (t <= edges[1:] + 1e-6)).all())


def test_lengths_cover_the_ray_to_its_end() -> None:
    """Sample lengths add up from the first sample to far."""
    t = torch.sort(torch.rand(4, 9), 1).values
    torch.testing.assert_close(sample_lengths(t, 1.5).sum(1), 1.5 - t[:, 0])
