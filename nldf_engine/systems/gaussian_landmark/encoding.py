"""How a field is conditioned on landmarks: by numbers of each point, or of the frame alone.

The choices are those of the paper's table III. Eq. (8a) and eq. (7) say of each point where it is beside each
landmark; the two others give all points of a frame the same numbers, which enter the network's first layer as
a bias.

Beside eq. (8a) points may know the shapes of the mouth and the eyes that they are about: that lips have
parted is a millimetre of one landmark against another, which Gaussians about either hardly show.

Shapes: F frames, N points of each, L landmarks, G regions (mouth, eyes), C components of each.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nldf_engine.geometry.face_mesh import MARKS_EYES, MARKS_LIPS
from nldf_engine.nn.frequency import encode_frequencies, frequency_dim
from nldf_engine.ops import encode_landmarks
from nldf_engine.ops.products import exact_products
from nldf_engine.systems.gaussian_landmark.driver import SMALLEST_SPREAD

# The weight of everything that stays where it is: what is far from all landmarks is not carried along, and
# knows no shape.
STILL = 0.5
REGIONS = MARKS_LIPS, MARKS_EYES
"""Of the 68, the landmarks whose shapes points may know."""
# A shape is held within so many standard deviations.
MOST_UNUSUAL = 4.0


@dataclass(frozen=True)
class EncodingSizes:
    """How landmarks are encoded. The defaults are the paper's.

    Args:
        kind: one of `ENCODINGS`: "gaussian" (eq. 8a), "gaussian-flat" (without gamma(d_z)), "isotropic"
            (eq. 7), "mlp" and "gamma" (numbers of the frame).
        levels: of gamma.
        size: metres, the standard deviation that Gaussians begin with, and keep in eq. (7). The paper's 0.05
            is in units of its head space; if that is RAD-NeRF's, with the camera 3.35 from a head that is
            about a metre off, it is 1.5 cm. At 5 cm, a lip's millimetres hardly change what a field sees.
        reach: Mahalanobis distance beyond which a Gaussian is zero.
        depth_unit: metres of one unit of d_z.
        code: numbers that "mlp" makes of the landmarks.
        carries: a Gaussian carries what is about its landmark along (see `GaussianEncoding.about`); in the
            paper it does not.
        components: C, principal components of the shapes of mouth and eyes that the points about them know
            (see `Shapes`); in the paper there are none.

    Raises:
        ValueError: an unknown kind, or a size that can't be meant.
    """

    kind: str = "gaussian"
    levels: int = 3
    size: float = 0.015
    reach: float = 4.3
    depth_unit: float = 0.2
    code: int = 64
    carries: bool = False
    components: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ENCODINGS:
            raise ValueError(f"encoding: expected one of {', '.join(ENCODINGS)}, got {self.kind!r}")
        if not 0 <= self.levels <= 16 or self.code < 1:
            raise ValueError(f"encoding: expected 0 to 16 levels and a code of at least 1, got {self}")
        if not 0 <= self.components <= 3 * min(map(len, REGIONS)):
            raise ValueError(
                f"encoding.components: expected 0 to {3 * min(map(len, REGIONS))}, got {self.components}"
            )
        for name in ("size", "reach", "depth_unit"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"encoding.{name}: expected more than 0, got {getattr(self, name)!r}")


class LandmarkEncoding(nn.Module, ABC):
    """Landmarks as inputs of a field.

    Attributes:
        point_dim: numbers of each point.
        frame_dim: numbers of each frame.
    """

    point_dim: int = 0
    frame_dim: int = 0

    def about(
        self, points: Tensor, landmarks: Tensor, usual: Tensor, axes: Tensor, backend: str
    ) -> tuple[Tensor, list[Tensor]]:
        """Where points are looked up in space, and their own numbers.

        Args:
            points: [F, N, 3] metres in head space.
            landmarks: [F, L, 3] metres in head space.
            usual: [L, 3] metres, the landmarks' usual places.
            axes: [F, 3] unit vectors along which d_z is measured.
            backend: "native" or "reference".

        Returns:
            places [F, N, 3], metres, here the points; numbers, each [F, N, D], together `point_dim`; here
            none.
        """
        return points, []

    def of_frames(self, landmarks: Tensor) -> Tensor:
        """[F, frame_dim] numbers of frames with landmarks [F, L, 3]."""
        return landmarks.new_empty(len(landmarks), 0)

    def calibrate(self, landmarks: Tensor) -> None:
        """Fits scales to the landmarks [T, L, 3] of the training frames; nothing to fit here."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """Its name in `ENCODINGS`."""
        ...


class Shapes(nn.Module):
    """Principal components of each region's landmarks, in standard deviations.

    Args:
        marks: which of the 68 the L landmarks are.
        components: C of each region.

    Buffers: `mean` [3 L], metres; `axes` [3 L, G C], from metres to standard deviations; zero before they are
    fitted, and for landmarks of no region.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, marks: Sequence[int], components: int) -> None:
        super().__init__()
        self.regions = [[i for i, mark in enumerate(marks) if mark in region] for region in REGIONS]
        self.components = components
        self.register_buffer("mean", torch.zeros(3 * len(marks)))
        self.register_buffer("axes", torch.zeros(3 * len(marks), len(REGIONS) * components))

    @torch.no_grad()
    def fit(self, landmarks: Tensor) -> None:
        """Fits both buffers to landmarks [T, L, 3] of the training frames; fewer frames than components
        leave the last ones zero."""
        self.mean.copy_(landmarks.mean(0).flatten())
        self.axes.zero_()
        for number, region in enumerate(self.regions):
            moved = (landmarks[:, region] - landmarks[:, region].mean(0)).flatten(1)
            _, sizes, axes = torch.linalg.svd(moved, full_matrices=False)
            found = min(self.components, len(sizes))
            scale = (sizes[:found] / len(moved) ** 0.5).clamp_min(SMALLEST_SPREAD)
            rows = (3 * torch.tensor(region)[:, None] + torch.arange(3)).flatten().to(self.axes.device)
            column = number * self.components
            self.axes[rows, column : column + found] = axes[:found].t() / scale

    def forward(self, landmarks: Tensor, weights: Tensor) -> Tensor:
        """[F, N, G C]: the regions' shapes, each in the share s / (s + `STILL`) in which a point is about the
        region, s the sum of the weights of its landmarks.

        Args:
            landmarks: [F, L, 3] metres.
            weights: [F, N, L] of Gaussians about them.
        """
        frames, count, _ = weights.shape
        codes = ((landmarks.flatten(1) - self.mean) @ self.axes).clamp(-MOST_UNUSUAL, MOST_UNUSUAL)
        sums = torch.stack([weights[..., region].sum(-1) for region in self.regions], -1)
        shares = sums / (sums + STILL)
        known = shares[..., None] * codes.view(frames, 1, len(self.regions), self.components)
        return known.view(frames, count, -1)


class GaussianEncoding(LandmarkEncoding):
    """Eq. (8a), (8b): r(x | l) = exp(-1/2 d^T Sigma^-1 d) gamma(d_z), Sigma = R S (R S)^T of each landmark.

    Args:
        marks: which of the 68 the L landmarks are.
        sizes: see there.
        depth: multiply by gamma(d_z); else the weight alone is the feature.

    Parameters: `rotations` [L, 4], quaternions w, x, y, z of R; `log_scales` [L, 3], logarithms of S, metres.
    """

    kind = "gaussian"

    def __init__(self, marks: Sequence[int], sizes: EncodingSizes, depth: bool = True) -> None:
        super().__init__()
        self.sizes, self.depth, count = sizes, depth, len(marks)
        self.point_dim = count * (1 + 2 * sizes.levels if depth else 1) + len(REGIONS) * sizes.components
        self.shapes = Shapes(marks, sizes.components) if sizes.components else None
        turned = torch.zeros(count, 4)
        turned[:, 0] = 1
        self.rotations = nn.Parameter(turned)
        self.log_scales = nn.Parameter(torch.full((count, 3), math.log(sizes.size)))

    def calibrate(self, landmarks: Tensor) -> None:
        """See `LandmarkEncoding`."""
        if self.shapes is not None:
            self.shapes.fit(landmarks)

    def encode(self, points: Tensor, landmarks: Tensor, axes: Tensor, backend: str) -> Tensor:
        """[F, N, L (1 + 2 levels)] numbers of eq. (8a); the arguments are those of `about`."""
        sizes = self.sizes
        return encode_landmarks(
            points, landmarks, self.rotations, self.log_scales, axes, levels=sizes.levels, depth=self.depth,
            depth_scale=1 / sizes.depth_unit, cut=sizes.reach, backend=backend,
        )  # fmt: skip

    def about(
        self, points: Tensor, landmarks: Tensor, usual: Tensor, axes: Tensor, backend: str
    ) -> tuple[Tensor, list[Tensor]]:
        """See `LandmarkEncoding`: eq. (8a), and the shapes of the regions where sizes say so.

        With `carries`, places are where what is at the points would be, were the landmarks at their usual
        places: x - sum_l w_l (l - usual_l) / (sum_l w_l + `STILL`), w of eq. (8a).
        """
        sizes, places = self.sizes, points
        numbers = [self.encode(points, landmarks, axes, backend)]
        if not sizes.carries and self.shapes is None:
            return places, numbers
        weights = encode_landmarks(
            points, landmarks, self.rotations, self.log_scales,
            depth=False, cut=sizes.reach, backend=backend,
        )  # fmt: skip
        if sizes.carries:
            with exact_products():
                moved = torch.bmm(weights, landmarks - usual)
            places = points - moved / (weights.sum(-1, keepdim=True) + STILL)
        if self.shapes is not None:
            numbers.append(self.shapes(landmarks, weights))
        return places, numbers


class FlatEncoding(GaussianEncoding):
    """Eq. (8a) without gamma(d_z)."""

    kind = "gaussian-flat"

    def __init__(self, marks: Sequence[int], sizes: EncodingSizes) -> None:
        super().__init__(marks, sizes, depth=False)


class IsotropicEncoding(GaussianEncoding):
    """Eq. (7), of KeypointNeRF: one Gaussian for all landmarks and directions, and not learned."""

    kind = "isotropic"

    def __init__(self, marks: Sequence[int], sizes: EncodingSizes) -> None:
        super().__init__(marks, sizes)
        for name in ("rotations", "log_scales"):
            value = getattr(self, name).detach()
            delattr(self, name)
            self.register_buffer(name, value)


class FrameEncoding(LandmarkEncoding):
    """Numbers of the frame, made of landmarks less their mean, in standard deviations.

    Args:
        marks: which of the 68 the L landmarks are.

    Buffers: `mean` [3 L] and `spread` [3 L], metres, over the training frames.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, marks: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3 * len(marks)))
        self.register_buffer("spread", torch.ones(3 * len(marks)))

    @torch.no_grad()
    def calibrate(self, landmarks: Tensor) -> None:
        """See `LandmarkEncoding`."""
        flat = landmarks.flatten(1)
        self.mean.copy_(flat.mean(0))
        self.spread.copy_(flat.std(0).clamp_min(SMALLEST_SPREAD))

    def scaled(self, landmarks: Tensor) -> Tensor:
        """[F, 3 L] landmarks [F, L, 3], scaled."""
        return (landmarks.flatten(1) - self.mean) / self.spread


class MlpEncoding(FrameEncoding):
    """A code of each frame, by Linear, ReLU, Linear, as GeneFace++ has it."""

    kind = "mlp"

    def __init__(self, marks: Sequence[int], sizes: EncodingSizes) -> None:
        super().__init__(marks)
        self.frame_dim = sizes.code
        self.layers = nn.Sequential(
            nn.Linear(3 * len(marks), sizes.code), nn.ReLU(), nn.Linear(sizes.code, sizes.code)
        )

    def of_frames(self, landmarks: Tensor) -> Tensor:
        """See `LandmarkEncoding`."""
        made: Tensor = self.layers(self.scaled(landmarks))
        return made


class GammaEncoding(FrameEncoding):
    """gamma of the flattened landmarks."""

    kind = "gamma"

    def __init__(self, marks: Sequence[int], sizes: EncodingSizes) -> None:
        super().__init__(marks)
        self.levels = sizes.levels
        self.frame_dim = frequency_dim(3 * len(marks), sizes.levels)

    def of_frames(self, landmarks: Tensor) -> Tensor:
        """See `LandmarkEncoding`."""
        return encode_frequencies(self.scaled(landmarks), self.levels)


ENCODINGS: Mapping[str, Callable[[Sequence[int], EncodingSizes], LandmarkEncoding]] = {
    one.kind: one for one in (GaussianEncoding, FlatEncoding, IsotropicEncoding, MlpEncoding, GammaEncoding)
}
