"""NLDF-88 against the AD-NeRF head it was distilled from: whole pipelines, from pixels to composited pixels.

The light field: 88 layers of 256 over 48 beam coordinates and 64 of audio. The teacher: 64 coarse and 128
fine samples, resampled, so 256 evaluations of its network a ray. Both come from `nldf_engine.models`, see
the same camera and run in `inference_mode`, each with as many rays a call as suit it best. The audio code
is one vector a frame: it is made outside, and both networks pay for it once a call, as a bias.
"""

from __future__ import annotations

import torch
from torch import nn

from nldf_engine.models import (
    ConditionConfig,
    LightField,
    LightFieldConfig,
    RadianceField,
    RadianceFieldConfig,
)
from nldf_engine.rendering.cameras import Camera
from nldf_engine.rendering.fields import Bounds, Field
from nldf_engine.rendering.portrait import frame_rays

CAMERA = Camera(512, 512, 1100.0, 1100.0, 256.0, 256.0)
RAYS = {"cpu": {"nldf-88": 4096, "adnerf-head": 256}, "cuda": {"nldf-88": 131072, "adnerf-head": 4096}}


def pixels_of(count: int, device: torch.device) -> torch.Tensor:
    """[1, count, 2]: pixel centres spread over the frame."""
    g = torch.Generator().manual_seed(0)
    picked = torch.randperm(CAMERA.width * CAMERA.height, generator=g)[:count]
    return CAMERA.pixels()[picked][None].to(device)


def render(
    field: Field, pose: torch.Tensor, pixels: torch.Tensor, code: torch.Tensor, background: torch.Tensor,
    backend: str = "native",
) -> torch.Tensor:  # fmt: skip
    """[1, P, 3]: rays, encoding, network, compositing over the background."""
    return field(frame_rays(CAMERA, pose, pixels, backend), code).over(background)


def test_light_field_against_radiance_field(race, device):
    torch.manual_seed(0)
    bounds, conditions = Bounds(0.6, 1.0), ConditionConfig(eyes=False)
    fields = {
        "nldf-88": LightField(LightFieldConfig(bounds, conditions)),
        "adnerf-head": RadianceField(RadianceFieldConfig(bounds, conditions, density="softplus")),
    }
    macs = {name: field.macs for name, field in fields.items()}
    assert fields["nldf-88"].network.head.in_features == 112
    assert sum(isinstance(layer, nn.Linear) for layer in fields["nldf-88"].network.modules()) == 88
    pose = torch.eye(4, device=device)[None]
    pose[0, :3, 3] = torch.tensor([0.01, -0.02, -0.8])
    code = torch.randn(1, 64).to(device)
    rays = RAYS[device.type]
    with torch.inference_mode():
        scenes = {}
        for name, field in fields.items():
            field.to(device).eval()
            pixels = pixels_of(rays[name], device)
            scenes[name] = (pose, pixels, code, torch.rand_like(pixels[..., :1]).expand(-1, -1, 3))
            few = (pose, pixels[:, :64], code, scenes[name][3][:, :64])
            got = render(field, *few)
            field.backend = "reference"
            want = render(field, *few, backend="reference")
            field.backend = "native"
            torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)
            assert 0 < float(got.std()) < 10, "the rendered pixels don't vary: nothing is being computed"
        names = {name: f"{name} {macs[name] / 1e6:.2f} MMAC/ray" for name in fields}
        race(
            {names[name]: lambda name=name: render(fields[name], *scenes[name]) for name in fields},
            device=device,
            units={names[name]: rays[name] for name in fields},
            unit="rays",
            work={names[name]: 2 * macs[name] * rays[name] for name in fields},
            work_unit="GFLOP/s",
            rounds=8,
        )
