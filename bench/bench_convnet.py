"""The networks that find faces, landmarks, hands and persons: one call each, against torch's operations."""

from __future__ import annotations

import pytest
import torch

from nldf_engine.faces.network import load_network


@pytest.mark.parametrize("name", ["near", "far", "mesh", "person", "palm", "hand"])
def test_network(race, name):
    kernel, twin = load_network(name), load_network(name, "reference")
    picture = torch.rand(1, kernel.size, kernel.size, 3)
    found, expected = kernel(picture), twin(picture)
    for key, values in expected.items():
        torch.testing.assert_close(found[key], values, rtol=1e-3, atol=1e-3)
    race(
        {"native": lambda: kernel(picture), "reference": lambda: twin(picture)},
        device=torch.device("cpu"), units=1, unit="pictures",
    )  # fmt: skip
