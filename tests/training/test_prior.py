"""The lip prior: the asset is what was shipped, and a network that begins from it."""

from __future__ import annotations

import pytest
import torch

from nldf_engine.audio import FrontendConfig
from nldf_engine.base.errors import FileProblem
from nldf_engine.nn.speech import LipNet
from nldf_engine.systems.common.motion import MOUTH, MotionEncoder
from nldf_engine.training import prior
from nldf_engine.training.motion import fit_basis, placed_landmarks
from nldf_engine.training.prior import LipPrior, lip_prior, shared_codes


def test_the_shipped_prior_fits_the_bundled_front_end_alone():
    """Its components are orthonormal; features of other front-ends and weights are not its own."""
    found = lip_prior()
    flat = found.components.flatten(1)
    torch.testing.assert_close(flat @ flat.t(), torch.eye(len(flat)), atol=1e-3, rtol=0)
    assert found.components.shape[1:] == (len(MOUTH), 2)
    assert found.fits(FrontendConfig("whisper"))
    assert not found.fits(FrontendConfig("mel"))
    assert not found.fits(FrontendConfig("whisper", source="elsewhere"))


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
def test_another_file_is_refused(tmp_path, monkeypatch, damage):
    """A missing, truncated or swapped asset is named."""
    path = tmp_path / "prior.safetensors"
    content = prior.ASSET.read_bytes()
    if damage != "missing":
        path.write_bytes(content[:-9] if damage == "cut" else content[:-1] + b"\1")
    monkeypatch.setattr(prior, "ASSET", path)
    lip_prior.cache_clear()
    with pytest.raises(FileProblem, match=r"prior\.safetensors"):
        lip_prior()
    lip_prior.cache_clear()


def small_prior(ahead: int = 4) -> LipPrior:
    """Random weights over windows of 4 rows of 6 features, in the shipped lip space."""
    torch.manual_seed(0)
    net = LipNet(6, 4, len(lip_prior().components), 16).eval()
    return LipPrior(lip_prior().components, dict(net.state_dict()), "whisper", ahead)


def test_a_network_begins_as_the_shared_one_in_the_avatars_codes(synthetic_dataset):
    """What the shared network says in shared components comes out as the codes that stand for it."""
    fit = torch.from_numpy(synthetic_dataset.indices("fit"))
    encoder = MotionEncoder(8, 6, 4, "lip")
    encoder.speech = LipNet(6, 4, 8, 16)
    codes = fit_basis(encoder.basis, synthetic_dataset, fit)
    placed, shared = placed_landmarks(encoder.basis, synthetic_dataset), small_prior()
    shared.start(encoder, placed, codes, fit, 4)
    teacher = LipNet(6, 4, len(shared.components), 16)
    teacher.load_state_dict(shared.net)
    features = torch.randn(30, 4, 6)
    said = teacher.eval().encode_clip(features)
    known = shared_codes(shared.components, placed, fit)[fit]
    to_own = torch.linalg.lstsq(known.double(), codes[fit].double()).solution.float()
    torch.testing.assert_close(
        encoder.eval().speech.encode_clip(features), said @ to_own, atol=1e-3, rtol=1e-3
    )


def test_a_smaller_look_ahead_sees_the_same_rows_at_other_places(synthetic_dataset):
    """Windows that end two rows earlier hold each row two places later; the last two are lost."""
    fit = torch.from_numpy(synthetic_dataset.indices("fit"))
    encoder = MotionEncoder(8, 6, 4, "lip")
    encoder.speech = LipNet(6, 4, 8, 16)
    codes = fit_basis(encoder.basis, synthetic_dataset, fit)
    placed = placed_landmarks(encoder.basis, synthetic_dataset)
    rows = [small_prior(), small_prior()]
    weights = []
    for shared, ahead in zip(rows, (4, 2), strict=True):
        shared.start(encoder, placed, codes, fit, ahead)
        weights.append(encoder.speech.rows[1].weight.detach().clone().view(16, 6, 4))
    torch.testing.assert_close(weights[1][..., 2:], weights[0][..., :2])
    assert not bool(weights[1][..., :2].any())
