"""HeadNeRF's losses (headnerf section 3.3 and 3.4), over pairs of neighbouring whole frames."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine.datasets.dataset import LABELS
from nldf_engine.geometry.face_mesh import LEFT_EYE, OUTER_LIP, RIGHT_EYE
from nldf_engine.nn.noise import normal_like
from nldf_engine.nn.perceptual import PictureLoss
from nldf_engine.rendering.region import plane_points
from nldf_engine.systems.common.torso_layer import TorsoLayer
from nldf_engine.systems.headnerf.model import HeadNeRF
from nldf_engine.systems.headnerf.objective.contrast import drawn_light
from nldf_engine.systems.headnerf.objective.faces import face_frames, light_field
from nldf_engine.systems.headnerf.objective.lips import LipWindows
from nldf_engine.systems.headnerf.objective.offsets import FrameOffsets
from nldf_engine.systems.headnerf.objective.shapes import FaceShapes
from nldf_engine.systems.headnerf.objective.swaps import Known, draw_swap, drawn_face, swap_loss
from nldf_engine.systems.headnerf.volume import LIGHT_SCALE
from nldf_engine.training import distributed
from nldf_engine.training.objective import Objective, StepLoss, squared, weigh_opacity
from nldf_engine.training.samplers import in_boxes, whole_frames
from nldf_engine.training.scene import Batch, Scene
from nldf_engine.training.stages import Subject

# The masked area of eq. (5) reaches so far beyond the labels, as a share of the width: the rim is learned
# too.
RIM = 1 / 64
# Boxes about lips and eyes reach so far beyond their landmarks, as shares of the width.
LIP_MARGIN, EYE_MARGIN = 0.03, 0.025
# As in nldf-fast, whose torso layer this is: what the masks of head and torso, and the plate's guess behind
# the head, count beside the speaker's mask.
PARTS_WEIGHT, HIDDEN_WEIGHT = 0.3, 2.0


class HeadNeRFObjective(Objective):
    """L = L_per + L_pho + 5 L_dis + 10 L_v + L_lips (eq. 2 to 8), and the opacity's.

    Args:
        subject: the speaker and what is trained.
        recipe: a `HeadNeRFRecipe`: weights and shares.
        known: codes of the pictures of the run's speakers (eq. 6); None leaves that loss out.
        perceptual: eq. (4)'s loss.
        lips: windows for eq. (8); None leaves that loss out.
        shapes: of the run's speakers, which a share of the steps sees this one's frames in.
    """

    def __init__(
        self, subject: Subject, recipe: Any, known: Known | None, perceptual: PictureLoss,
        lips: LipWindows | None, shapes: FaceShapes,
    ) -> None:  # fmt: skip
        super().__init__()
        head, torso = subject.portrait.head, subject.portrait.torso
        assert isinstance(head, HeadNeRF)
        self.head, self.scene, self.recipe = head, subject.scene, recipe
        self.torso = torso if isinstance(torso, TorsoLayer) else None
        self.perceptual, self.lips, self.shapes = perceptual, lips, shapes
        self.known = None if known is None else known.to(self.scene.device)
        scale = self.scene.camera.width / self.scene.dataset.camera.width
        self._faces = face_frames(torch.from_numpy(self.scene.dataset.landmarks).float() * scale)
        self.offsets = FrameOffsets(len(self.scene.frames), head.config.codes).to(self.scene.device)
        self.places = head.config.codes.places()
        self._boxes = _detail_boxes(self.scene)
        self._pool: tuple[Tensor, Tensor] | None = None

    def forward(self, generator: torch.Generator) -> StepLoss:
        """See `Objective`: pairs of neighbouring frames, whole."""
        frames = self.pairs(generator)
        light, shape = self._light(len(frames), generator), self._shape(generator)
        code = self._in_shape(self.codes(frames, light, generator), shape)
        batch = self._batch(frames, light)
        if shape != self.scene.identity:
            batch = self.shapes.reshaped(self.scene, shape, batch)
        camera, device = self.scene.camera, self.scene.device
        color, alpha = self.head.picture(camera, self.scene.poses[frames].to(device), code, generator)
        flat = len(frames), camera.height * camera.width
        color, alpha = color.reshape(*flat, 3), alpha.reshape(flat)
        behind, opacity = self._behind_and_opacity(batch, alpha, generator)
        pixel = color + (1 - alpha)[..., None] * behind
        losses = self._picture_losses(pixel, batch, generator)
        losses["opacity"] = self.recipe.opacity.weight * opacity
        weights = self.recipe.losses
        if self.known is not None:
            losses["disentangle"] = weights.disentangle_weight * self._disentangle(
                self.known, code, frames, light, shape
            )
            drawn = torch.rand((), generator=generator) < weights.swap_share
            drawn = drawn and shape == self.scene.identity
            if drawn and self.share >= weights.swap_after:
                swapped = self._swapped(self.known, code, frames, light, behind, generator)
                losses["swap"] = weights.disentangle_weight * weights.swap_weight * swapped
        if self.lips is not None:
            losses["sync"] = weights.sync_weight * self.lips.loss(weights.sync_windows, generator)
        total = torch.stack(list(losses.values())).sum()
        logged = {name: value.detach() for name, value in losses.items()}
        return StepLoss(total, {"pixel": squared(pixel - batch.target).mean().detach(), **logged})

    # What a step sees.

    def pairs(self, generator: torch.Generator) -> Tensor:
        """[2 N] frame numbers: each drawn one behind its predecessor; of several processes each has some."""
        pool = self.scene.frame_pool
        if self._pool is None or self._pool[0] is not pool:
            self._pool = pool, later_frames(self.scene)
        later = self._pool[1]
        count = max(1, self.recipe.sampling.frames // 2)
        drawn = later[torch.randint(len(later), (count,), generator=generator)]
        blinks = self.scene.blinks()
        blinks = blinks[torch.isin(blinks, later)]
        if len(blinks) and self.recipe.sampling.blink_share:
            often = torch.rand(count, generator=generator) < self.recipe.sampling.blink_share
            drawn[often] = blinks[torch.randint(len(blinks), (int(often.sum()),), generator=generator)]
        drawn = distributed.share(drawn, what="sampling.frames: pairs of frames")
        return torch.stack([drawn - 1, drawn], 1).flatten()

    def _light(self, count: int, generator: torch.Generator) -> Tensor:
        """[count, 3] light that is added to the pictures of a step, the same for a pair; zero in most."""
        pairs = count // 2
        chosen = torch.rand(pairs, generator=generator) < self.recipe.relight_share
        return (drawn_light(pairs, generator) * chosen[:, None]).repeat_interleave(2, 0)

    def _shape(self, generator: torch.Generator) -> int:
        """Whose shape the step's frames have: their own speaker's in most."""
        others = self.shapes.others(self.scene.identity)
        if not others or torch.rand((), generator=generator) >= self.recipe.reshape_share:
            return self.scene.identity
        return others[int(torch.randint(len(others), (), generator=generator))]

    def _in_shape(self, code: Tensor, shape: int) -> Tensor:
        """Codes [F, C] with the identity of speaker `shape`."""
        if shape == self.scene.identity:
            return code
        place = self.places["identity"]
        taken = self.head.driver.part("identity").table[shape].expand(len(code), -1)
        return torch.cat([code[:, : place.start], taken, code[:, place.stop :]], 1)

    def codes(self, frames: Tensor, light: Tensor, generator: torch.Generator) -> Tensor:
        """Codes [F, C] of frames [F] under added light [F, 3], with the recipe's noise, and with their
        offsets in a share of the pairs: an avatar's frames have none."""
        device, driving = self.scene.device, self.recipe.driving
        conditions, places = self.scene.conditions, frames.to(device)
        if conditions.motion is not None:
            noise = driving.motion_noise * normal_like(conditions.motion, generator)
            conditions = conditions.replaced(motion=conditions.motion + noise)
        track = conditions.get("light")
        usual = torch.zeros(len(conditions), 3, device=device) if track is None else track
        lit = usual.index_copy(0, places, usual[places] + light.to(device))
        code = self.head.driver(conditions.replaced(light=lit), places)
        coin = torch.rand(len(frames) // 2, generator=generator) < self.recipe.offset_share
        return self.offsets.added(code, places, coin.float().repeat_interleave(2).to(device))

    def _batch(self, frames: Tensor, light: Tensor) -> Batch:
        """Whole frames, with the added light on what is the head's."""
        scene = self.scene
        pixels, grid = whole_frames(frames, scene.camera.height, scene.camera.width)
        batch = scene.batch(frames, pixels, grid=grid)
        if not bool(light.any()):
            return batch
        places = plane_points(batch.rays.origins, batch.rays.directions) / LIGHT_SCALE
        glow = light_field(light[..., None].to(places), places[..., 0], places[..., 1])
        factor = 1 + batch.mask * (glow - 1)
        batch.target.mul_(factor[..., None]).clamp_(0, 1)
        return batch

    # Losses.

    def _behind_and_opacity(
        self, batch: Batch, alpha: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """What is behind the head [F, P, 3], and the opacity's loss; a torso's that is learned along
        included, but for frames in another's shape, whose torso is nobody's."""
        if self.torso is None:
            return batch.behind, self._weigh(batch.mask_error(alpha), batch.mask, batch)
        scene, (frames, _) = self.scene, batch.on_host
        points = batch.points / scene.camera.width
        motions, poses = scene.motions[frames].to(scene.device), scene.poses[frames].to(scene.device)
        given = self.torso.frames_of(motions, poses)
        color, own = self.torso.premultiplied(points, given, normal_like(given.inputs, generator))
        if batch.identity != scene.identity:
            behind = (color + (1 - own)[..., None] * batch.behind).detach()
            return behind, self._weigh(batch.mask_error(alpha), batch.mask, batch)
        both = 1 - (1 - alpha) * (1 - own)
        speaker = (batch.labels != LABELS["background"]).float()
        head = batch.labels == LABELS["head"]
        apart = head | (batch.labels == LABELS["torso"])
        parts = self._weigh((alpha - batch.mask).square() * apart, batch.mask, batch)
        plate, dense = batch.plate
        guess = (color - plate).square().sum(-1) + (own - dense).square()
        opacity = self._weigh((both - speaker).square(), speaker, batch) + PARTS_WEIGHT * parts
        return color + (1 - own)[..., None] * batch.behind, opacity + HIDDEN_WEIGHT * (guess * head).mean()

    def _weigh(self, error: Tensor, mask: Tensor, batch: Batch) -> Tensor:
        return weigh_opacity(error, mask, batch, self.recipe.opacity)

    def _picture_losses(self, pixel: Tensor, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Eq. (4), (5) and (7) of pictures [F, P, 3]."""
        weights, error = self.recipe.losses, pixel - batch.target
        area = self._area(batch)
        total = area.sum().clamp_min(1.0)
        losses = {"photometric": (area * squared(error)).sum() / total}
        if weights.velocity_weight:
            # A pair's difference of errors is the error of its differences.
            moved = squared(error[1::2] - error[::2])
            both = torch.maximum(area[1::2], area[::2])
            velocity = (both * moved).sum() / both.sum().clamp_min(1.0)
            losses["velocity"] = weights.velocity_weight * velocity
        if self.torso is not None and batch.identity == self.scene.identity:
            losses["torso"] = ((1 - area.clamp_max(1)) * squared(error)).mean()
        if weights.perceptual_weight and torch.rand((), generator=generator) < weights.perceptual_share:
            rendered, real = self._crops(pixel, batch, generator)
            losses["perceptual"] = weights.perceptual_weight * self.perceptual(rendered, real)
        return losses

    def _area(self, batch: Batch) -> Tensor:
        """[F, P] weights of eq. (5): 1 on the head and its rim, more about lips and eyes, 0 elsewhere."""
        assert batch.grid is not None
        reach = max(1, round(RIM * batch.grid[1]))
        masks = batch.mask.view(-1, 1, *batch.grid)
        wide = F.max_pool2d(masks, 2 * reach + 1, 1, reach).flatten(1)
        inside = in_boxes(self._boxes, batch.frames.cpu(), batch.pixels, batch.grid[1])
        return wide * (1 + (self.recipe.losses.detail_weight - 1) * inside)

    def _crops(self, pixel: Tensor, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rendered and real crops [F, 3, S, S] about a place of the head, the same for all frames of a
        step."""
        assert batch.grid is not None
        height, width = batch.grid
        side = min(self.recipe.losses.perceptual_side, height, width)
        on = batch.mask[0].nonzero()[:, 0].cpu()
        every = torch.arange(height * width) if not len(on) else on
        middle = int(every[torch.randint(len(every), (), generator=generator)])
        top = min(max(0, middle // width - side // 2), height - side)
        left = min(max(0, middle % width - side // 2), width - side)
        pair = [x.view(-1, height, width, 3).permute(0, 3, 1, 2) for x in (pixel, batch.target)]
        rendered, real = (x[:, :, top : top + side, left : left + side] for x in pair)
        return rendered, real

    def _disentangle(self, known: Known, code: Tensor, frames: Tensor, light: Tensor, shape: int) -> Tensor:
        """Eq. (6): codes [F, C] of frames [F] near those of the pictures; under added light, near what it
        does; in the shape of speaker `shape`, near that identity."""
        own, places = known.speakers[self.scene.identity], frames.to(code.device)
        lit = own.illumination[places] + light.to(code.device) @ own.light_map.t()
        wanted = {
            "identity": known.speakers[shape].identity, "albedo": own.albedo,
            "expression": own.expression[places], "illumination": lit,
        }  # fmt: skip
        terms = [
            getattr(self.recipe.losses, f"{name}_weight")
            * (code[:, self.places[name]] - value).square().mean()
            for name, value in wanted.items()
        ]
        return torch.stack(terms).sum()

    def _swapped(
        self, known: Known, code: Tensor, frames: Tensor, light: Tensor, behind: Tensor,
        generator: torch.Generator,
    ) -> Tensor:  # fmt: skip
        """Eq. (6) on a picture of the step's first frame with one code exchanged (see `swaps`)."""
        scene, driver, row = self.scene, self.head.driver, code[:1].clone()
        swap = draw_swap(scene.identity, len(known.speakers), scene.frame_pool, generator)
        if swap.factor == "expression":
            taken = driver(scene.conditions, torch.tensor([swap.frame], device=scene.device))
            row[:, self.places["expression"]] = taken[:, self.places["expression"]]
        else:
            table = driver.part(swap.factor).table
            row[:, self.places[swap.factor]] = table[swap.speaker]
        # The picture's own light is wanted: what was added is taken off.
        row[:, self.places["illumination"]] -= driver.illumination.linear(light[:1].to(row))
        camera, number = scene.camera, int(frames[0])
        color, alpha = self.head.picture(camera, scene.poses[frames[:1]].to(scene.device), row, generator)
        picture = color[0] + (1 - alpha[0])[..., None] * behind[0].detach().view_as(color[0])
        seen = known.extractor(drawn_face(picture, self._faces[number].to(picture)))
        own, other = known.speakers[scene.identity], known.speakers[swap.speaker]
        return swap_loss(seen, swap, own, other, number)

    # What a run keeps.

    def added(self) -> list[nn.Parameter]:
        """See `Objective`: the frames' offsets."""
        return list(self.offsets.parameters())

    def begin(self, frames: Tensor) -> None:
        """See `Objective`: their offsets begin at none."""
        self.offsets.begin(frames.to(self.scene.device))

    def state(self) -> dict[str, Tensor]:
        """See `Objective`: the frames' offsets, the extractor and what it knows."""
        state = {f"offsets.{name}": value.detach() for name, value in self.offsets.tables.items()}
        return state if self.known is None else state | self.known.state()

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """See `Objective`."""
        for name, table in self.offsets.tables.items():
            table.copy_(state[f"offsets.{name}"])
        if self.known is not None:
            self.known.restore(state)


def later_frames(scene: Scene) -> Tensor:
    """[N] numbers of the frames of a scene's pool whose predecessor is in it too.

    Raises:
        ValueError: there is none.
    """
    pool = scene.frame_pool
    later = pool[torch.isin(pool - 1, pool)]
    if not len(later):
        raise ValueError(
            f"{scene.dataset.path}: eq. (7) expects neighbouring training frames with faces, got none; "
            "prepare a video whose face is seen throughout"
        )
    return later


def _detail_boxes(scene: Any) -> list[Tensor]:
    """Boxes [T, 4] x0, y0, x1, y1 about lips and eyes, pixels; empty where a frame has no face."""
    width = scene.camera.width
    points = torch.from_numpy(scene.dataset.landmarks).float() * (width / scene.dataset.camera.width)
    found = []
    for landmarks, margin in ((OUTER_LIP, LIP_MARGIN), (RIGHT_EYE, EYE_MARGIN), (LEFT_EYE, EYE_MARGIN)):
        seen = points[:, list(landmarks)]
        box = torch.cat([seen.amin(1) - margin * width, seen.amax(1) + margin * width], 1)
        found.append(box.nan_to_num(-1))
    return found
