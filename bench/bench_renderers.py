"""Whole renderers, from pixels to composited pixels: NLDF-88 against the AD-NeRF it is distilled from.

The light field: 88 layers of 256 over 48 beam coordinates and 64 of audio. The teacher: 64 coarse and 128
fine samples, resampled, so 256 evaluations of its network a ray. Both also with a second field of their kind
behind them, the torso (ad_nerf 3.4), whose code has the head's pose as well. nldf-fast: grids of features on
two planes and two small networks. All come from `nldf_engine.systems`, see the same camera and run in
`inference_mode`, each with as many rays a call as suit it best. The audio code is one vector a frame: it is
made outside, and every network pays for it once a call, as a bias.

`test_pipelines` gives every system as many rays as suit it best, and so the rate of its arithmetic.
`test_frames` renders every pixel of one small picture with all of them, so that frames a second compare; what
a call costs beside its rays weighs more there, on nldf-fast most of all.

Systems that are not here to be timed stand as counts of multiply-adds a ray, of weights alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from bench.timing import Row, count_row, kernel_of, use_precision
from nldf_engine.geometry.cameras import Camera
from nldf_engine.nn.pose import pose_dim
from nldf_engine.rendering.fields import Bounds, RayColors, RayField, Rays
from nldf_engine.rendering.layer import View, frame_rays
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.adnerf.model import RadianceField, RadianceFieldConfig
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.common.torso import TorsoPlate
from nldf_engine.systems.nldf.model import LightField, LightFieldConfig
from nldf_engine.systems.nldf_fast.model import GridLightField
from nldf_engine.systems.nldf_fast.recipe import usual_network
from nldf_engine.systems.registry import build_head
from nldf_engine.training.presets import find_preset, presets

CAMERA = Camera(512, 512, 1100.0, 1100.0, 256.0, 256.0)
BOUNDS, CONDITIONS = Bounds(0.6, 1.0), ConditionConfig(eyes=False)


@dataclass(frozen=True)
class System:
    """A renderer in the race.

    Args:
        build: makes its field.
        cpu, cuda: rays a call on each device.
    """

    build: Callable[[], RayField]
    cpu: int
    cuda: int


class Both(torch.nn.Module):
    """Head before torso; the torso's code is the head's with the encoded pose behind it.

    Args:
        make: a field for its conditions.
    """

    def __init__(self, make: Callable[[ConditionConfig], RayField]) -> None:
        super().__init__()
        self.head, self.torso = make(CONDITIONS), make(replace(CONDITIONS, head_pose=3))

    def __setattr__(self, name: str, value: object) -> None:
        if name == "backend":
            self.head.backend = self.torso.backend = value
        else:
            super().__setattr__(name, value)

    @property
    def macs(self) -> int:
        """Multiply-adds a ray."""
        return self.head.macs + self.torso.macs

    def forward(self, rays: Rays, code: torch.Tensor) -> RayColors:
        """The colours of both."""
        front, back = self.head(rays, code), self.torso(rays, torch.nn.functional.pad(code, (0, pose_dim(3))))
        left = 1 - front.opacity
        segments = torch.cat([front.segments, left[..., None, None] * back.segments], 2)
        return RayColors(segments, 1 - left * (1 - back.opacity))


def light_field(conditions: ConditionConfig) -> RayField:
    """The paper's NLDF."""
    return LightField(LightFieldConfig(BOUNDS, conditions))


def radiance_field(conditions: ConditionConfig) -> RayField:
    """The paper's AD-NeRF, with a density that lives without training."""
    return RadianceField(RadianceFieldConfig(BOUNDS, conditions, density="softplus"))


# The first is the one that the others are compared with. A new system is one line here.
SYSTEMS = {
    "nldf-88": System(lambda: light_field(CONDITIONS), 4096, 131072),
    "nldf-fast": System(lambda: GridLightField(usual_network(BOUNDS, CONDITIONS)), 65536, 262144),
    "adnerf head": System(lambda: radiance_field(CONDITIONS), 128, 4096),
    "nldf-88 head + torso": System(lambda: Both(light_field), 4096, 131072),
    "adnerf head + torso": System(lambda: Both(radiance_field), 128, 4096),
}

# Multiply-adds of one evaluation. AD-NeRF's head: 127 to 256, six of 256 to 256, 383 to 256 (the skip), 283
# to 128, two of 128 to 128, 128 to 3, 256 to 1.
HEAD = 127 * 256 + 6 * 256**2 + 383 * 256 + 283 * 128 + 2 * 128**2 + 128 * 3 + 256
# DFRF: the head with 256 image features twice, the warp of four references, and slot attention over them.
DFRF = HEAD + 2 * 256 * 256 + 147_000 + 861_000
COUNTED = {
    "dfrf 64 + 128 samples": 256 * DFRF,
    "dfrf 32 + 64 samples": 128 * DFRF,
}


# A side of the whole frames, by pace: AD-NeRF's head and torso take a CPU some 13 s for 32 x 32 pixels.
SIDE = {"cpu": {"quick": 32, "normal": 32, "full": 64}, "cuda": {"quick": 128, "normal": 256, "full": 512}}
FRAMES = 3  # of each system at most, after a first one
# Presets for a CPU end so, or are the default one, which the others are compared with; their size.
DEFAULT, FOR_CPU, PRESET_SIDE = "nldf-fast", "-small", 128


def pixels_of(count: int, device: torch.device) -> torch.Tensor:
    """[1, count, 2]: pixel centres spread over the frame."""
    g = torch.Generator().manual_seed(0)
    picked = torch.randperm(CAMERA.width * CAMERA.height, generator=g)[:count]
    return CAMERA.pixels()[picked][None].to(device)


def render(
    field: RayField, pose: torch.Tensor, pixels: torch.Tensor, code: torch.Tensor, background: torch.Tensor,
    backend: str = "native", camera: Camera = CAMERA,
) -> torch.Tensor:  # fmt: skip
    """[1, P, 3]: rays, encoding, network, compositing over the background."""
    return field(frame_rays(camera, pose, pixels, backend), code).over(background)


def scene(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Pose, pixels, code and background of a call."""
    device = pixels.device
    pose = torch.eye(4, device=device)[None]
    pose[0, :3, 3] = torch.tensor([0.01, -0.02, -0.8])
    g = torch.Generator().manual_seed(1)
    code, shade = torch.randn(1, 64, generator=g), torch.rand(1, pixels.shape[1], 1, generator=g)
    return pose, pixels, code.to(device), shade.expand(-1, -1, 3).contiguous().to(device)


def fields_on(device: torch.device, precision: str) -> dict[str, RayField]:
    """Every system's field in a precision, checked against its PyTorch reference on a few rays."""
    torch.manual_seed(0)
    fields = {name: system.build() for name, system in SYSTEMS.items()}
    assert fields["nldf-88"].network.head.in_features == 112
    assert len(fields["nldf-88"].network.blocks) == 43
    few = scene(pixels_of(64, device))
    for field in fields.values():
        field.to(device).eval()
        allowed = use_precision(field, precision)
        got = render(field, *few)
        field.backend = "reference"
        want = render(field, *few, backend="reference")
        field.backend = "native"
        torch.testing.assert_close(got, want, rtol=allowed, atol=allowed)
        assert 0 < float(got.std()) < 10, "the rendered pixels don't vary: nothing is being computed"
    return fields


def counted(fields: dict[str, RayField], case: str, unit: str, rays: int) -> list[Row]:
    """Rows of the systems that are counted and not timed; `rays` to a `unit`."""
    nldf = fields["nldf-88"].macs
    return [
        count_row(case, name, unit, 2.0 * macs * rays, f"{macs / nldf:.1f} times nldf-88's")
        for name, macs in COUNTED.items()
    ]


def test_pipelines(race, device, precision):
    rays = {name: getattr(system, device.type) for name, system in SYSTEMS.items()}
    with torch.inference_mode():
        fields = fields_on(device, precision)
        scenes = {name: scene(pixels_of(rays[name], device)) for name in fields}
        race(
            {name: lambda name=name: render(fields[name], *scenes[name]) for name in fields},
            device=device, units=rays, unit="rays",
            flops={name: 2.0 * field.macs for name, field in fields.items()},
            kernels={name: kernel_of(field, device) for name, field in fields.items()},
            more=counted(fields, "counts", "rays", 1),
        )  # fmt: skip


def test_frames(race, device, precision, pace):
    side = SIDE[device.type][pace.mode]
    camera, rays = CAMERA.scaled(side), side * side
    with torch.inference_mode():
        fields = fields_on(device, precision)
        pose, pixels, code, background = scene(camera.pixels()[None].to(device))

        def frame(name: str) -> torch.Tensor:
            most = getattr(SYSTEMS[name], device.type)
            parts = zip(pixels.split(most, 1), background.split(most, 1), strict=True)
            return torch.cat(
                [render(fields[name], pose, some, code, behind, camera=camera) for some, behind in parts], 1
            )

        case = f"every pixel of a frame of {side} x {side}"
        race(
            {name: lambda name=name: frame(name) for name in fields},
            device=device, units=1, unit="frames", rounds=FRAMES, case=case,
            flops={name: 2.0 * field.macs * rays for name, field in fields.items()},
            kernels={name: kernel_of(field, device) for name, field in fields.items()},
            more=counted(fields, f"{case}, counts", "frames", rays),
        )  # fmt: skip


@dataclass(frozen=True)
class Sitting:
    """A head of a preset with random weights, and the frame that it draws.

    Args:
        portrait: the head; its torso shows nothing.
        view: of the frame.
        code: [C], random.
        background: [H, W, 3], random.
    """

    portrait: Portrait
    view: View
    code: torch.Tensor
    background: torch.Tensor

    @classmethod
    def of(cls, name: str, device: torch.device) -> Sitting:
        """The preset called `name`, whose every ray may meet the head."""
        torch.manual_seed(0)
        preset = find_preset(name)
        head = build_head(preset.system, preset.config(BOUNDS, ConditionConfig(motion=8, upper=4)))
        portrait = Portrait(head, TorsoPlate(1, 1)).to(device).eval()
        camera = CAMERA.scaled(PRESET_SIDE)
        pose = torch.eye(4)
        pose[:3, 3] = torch.tensor([0.01, -0.02, -0.8])
        motion = torch.eye(2, 3)
        g = torch.Generator().manual_seed(1)
        # Metres of landmarks as well as codes of motion: small, and not zero.
        code = 0.1 * torch.randn(head.driver.dim, generator=g)
        background = torch.rand(PRESET_SIDE, PRESET_SIDE, 3, generator=g)
        return cls(
            portrait, View(camera, pose.to(device), motion.to(device)), code.to(device), background.to(device)
        )

    def frame(self, backend: str = "native") -> torch.Tensor:
        """[H, W, 3] uint8."""
        self.portrait.use_backend(backend)
        return self.portrait.picture(self.view, self.code, self.background)


def test_presets(race, device):
    names = [DEFAULT, *(name for name in presets() if name.endswith(FOR_CPU))]
    sittings = {name: Sitting.of(name, device) for name in names}
    with torch.inference_mode():
        for name, sitting in sittings.items():
            got, want = sitting.frame().int(), sitting.frame("reference").int()
            assert int((got - want).abs().max()) <= 2, f"{name}: native and reference frames differ"
            sitting.portrait.use_backend("native")
        race(
            {name: sitting.frame for name, sitting in sittings.items()},
            device=device, units=1, unit="frames",
            case=f"the head of each preset for a CPU, {PRESET_SIDE} x {PRESET_SIDE}",
        )  # fmt: skip
