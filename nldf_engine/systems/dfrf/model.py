"""DFRF: F(point, direction, audio, features of reference pictures) -> (colour, density) (dfrf eq. 7).

A point is projected into pictures of the speaker, moved there by an audio-conditioned offset, and what it
meets is looked up. The features of several references are fused, and condition AD-NeRF's field. Who speaks is
seen in the references alone, so one set of weights serves every speaker.

Linear layers that follow a look-up are applied once to every pixel of the references (`FeatureMaps`):
bilinear interpolation is linear, so that the result is the same.

Shapes: F frames, P points in all, R references of H x W pixels, D features of a pixel.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nldf_engine import ops
from nldf_engine.nn.frequency import encode_frequencies, frequency_dim
from nldf_engine.nn.fused import PackedWeights
from nldf_engine.systems.adnerf.model import KnownSamples, RadianceField, RadianceFieldConfig, RadianceMLP
from nldf_engine.systems.dfrf.fusion import FusionSizes, SlotFusion
from nldf_engine.systems.dfrf.references import Extractor, ExtractorSizes, ReferencePictures, References
from nldf_engine.systems.dfrf.warp import WarpField, WarpSizes

MOST_REFERENCES, LARGEST_REFERENCE = 32, 4096
# How places in references are counted, see `ReferenceFieldConfig`.
PLACES = ("exact", "whole")


@dataclass(frozen=True)
class ReferenceFieldConfig(RadianceFieldConfig):
    """A field with references. The defaults are the paper's sizes, or those of its public code.

    Args:
        references: N, how many pictures an avatar keeps.
        picture: their height and width, pixels.
        extractor, warp, fusion: see there.
        places: "exact", or "whole" as in the public code, whose weights know nothing else: a projected place
            is moved to the centre of the pixel that it lies in before the offset is added, the sum is held
            within the picture, and the fusion is given the row and column that it lies in. No gradient flows
            from such a place to the point.

    Raises:
        ValueError: as `RadianceFieldConfig`, numbers and sizes of references beyond what can be meant, other
            places, or whole ones without a warp.
    """

    references: int = 4
    picture: tuple[int, int] = (512, 512)
    extractor: ExtractorSizes = field(default_factory=ExtractorSizes)
    warp: WarpSizes = field(default_factory=WarpSizes)
    fusion: FusionSizes = field(default_factory=FusionSizes)
    places: str = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.references <= MOST_REFERENCES:
            raise ValueError(f"references: expected 1 to {MOST_REFERENCES}, got {self.references}")
        if len(self.picture) != 2 or not 1 <= min(self.picture) <= max(self.picture) <= LARGEST_REFERENCE:
            raise ValueError(
                f"picture: expected (height, width) of 1 to {LARGEST_REFERENCE} pixels, got {self.picture}"
            )
        if self.places not in PLACES:
            raise ValueError(f"places: expected {' or '.join(map(repr, PLACES))}, got {self.places!r}")
        if self.places == "whole" and not self.warp.on:
            raise ValueError("places: whole ones are those of a field with a warp, and warp.on is off")

    @property
    def feature_dim(self) -> int:
        """See `RadianceFieldConfig`: all slots of the fused feature."""
        return self.fusion.slots * self.fusion.width


@dataclass(frozen=True)
class FeatureMaps:
    """What is looked up in the references of one speaker.

    Args:
        projections: [R, 3, 4] from metres in head space to pixels of the maps times depth.
        warp: [R, H, W, h], the warp's share (`WarpField.share`); None without a warp.
        fused: [R, H, W, C], the fusion's shares (`SlotFusion.shares`).
        bends: where a list, every look-up adds its offsets [P, R, 2], in units of the picture's width, and
            the density [P] that the field then gives.
    """

    projections: Tensor
    warp: Tensor | None
    fused: Tensor
    bends: list[tuple[Tensor, Tensor]] | None = None


class ReferenceField(RadianceField):
    """References, extractor, warp, fusion, and AD-NeRF's coarse and fine networks on top (dfrf fig. 2).

    Attributes:
        warping: whether offsets are applied; training begins without (dfrf 3.5, from coarse to fine).
    """

    system = "dfrf"
    own_settings = ("bounds", "references", "picture")
    config: ReferenceFieldConfig

    def __init__(self, config: ReferenceFieldConfig) -> None:
        super().__init__(config)
        points = frequency_dim(3, config.position_frequencies)
        features = config.extractor.features
        self.references = ReferencePictures(config.references, *config.picture)
        self.extractor = Extractor(config.extractor, config.bounds.radius)
        self.position_warp = (
            WarpField(points, config.conditions.code_dim, features, config.warp) if config.warp.on else None
        )
        self.fusion = SlotFusion(points, features, config.fusion)
        self.warping = True
        self._kept: PackedWeights[FeatureMaps] = PackedWeights()

    @property
    def own_parts(self) -> list[nn.Module]:
        """See `RayField`: the references."""
        return [self.references]

    def keep_references(self, references: References) -> None:
        """Takes these reference pictures, of any number and size, and says so in the configuration."""
        self.references.keep(references)
        count, height, width, _ = references.pictures.shape
        self.config = dataclasses.replace(self.config, references=count, picture=(height, width))

    def train(self, mode: bool = True) -> ReferenceField:
        """As `nn.Module.train`; what was kept of the references is made again."""
        self._kept.forget()
        super().train(mode)
        return self

    def maps(self, references: References, bends: bool = False) -> FeatureMaps:
        """What is looked up in references, with gradients; `bends` keeps the offsets for a loss."""
        features = self.extractor(references)
        warp = None
        if self.position_warp is not None and self.warping:
            warp = self.position_warp.share(features)
        return FeatureMaps(
            references.projections(), warp, self.fusion.shares(features), [] if bends else None
        )

    def context(self) -> FeatureMaps:
        """See `RadianceField`: the maps of the field's own references, kept until a weight changes."""
        own = self.references.references
        layers = [self.extractor, self.fusion, *([self.position_warp] if self.position_warp else [])]
        tensors = [own.pictures, own.poses, own.views]
        tensors += [parameter for layer in layers for parameter in layer.parameters()]
        return self._kept.get(tensors, lambda: self.maps(own), self.warping, keep=not torch.is_grad_enabled())

    def evaluate(
        self, network: RadianceMLP, points: Tensor, views: Tensor, code: Tensor, chosen: Tensor | None,
        context: Any, known: KnownSamples | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
        """See `RadianceField`; features are used again where nothing is to be learnt from them."""
        flat = points.reshape(len(points), -1, 3)
        if chosen is not None:
            flat = flat[:, chosen]
        if known is not None:
            places = known.places if chosen is None else known.places[chosen]
            new = (places < 0).nonzero()[:, 0]
            found, offsets = self.look_up(flat[:, new], code, context)
            order = places.index_copy(0, new, len(known.features) + torch.arange(len(new), device=new.device))
            features = torch.cat([known.features, found[0]]).index_select(0, order)[None]
        else:
            features, offsets = self.look_up(flat, code, context)
        rgb, density = network(points, views, code, chosen, features)
        if context.bends is not None and offsets is not None:
            context.bends.append((offsets, density.detach().reshape(-1)))
        again = len(points) == 1 and context.bends is None and not torch.is_grad_enabled()
        return rgb, density, features[0] if again else None

    def look_up(self, points: Tensor, code: Tensor, maps: FeatureMaps) -> tuple[Tensor, Tensor | None]:
        """The fused features of points, dfrf eq. (1), (3) and (4).

        Args:
            points: [F, n, 3] in units of the bounds' radius.
            code: [F, C].
            maps: of the references.

        Returns:
            features [F, n, K W + D], the fused ones and the encoded points, as `RadianceMLP` takes them; and
            offsets [F n, R, 2] in units of the picture's width, or None.
        """
        height, width = maps.fused.shape[1:3]
        metres = (points * self.config.bounds.radius).view(-1, 3)
        encoded = encode_frequencies(points, self.config.position_frequencies)
        offsets, moved, told = None, None, None
        if maps.warp is not None and self.position_warp is not None:
            shares, places = ops.gather_references(
                metres, maps.projections, maps.warp, nearest=True, backend=self.backend
            )
            offsets = self.position_warp(encoded, code, shares)
            moved = offsets * width
            if self.config.places == "whole":
                moved, told = whole_places(places, moved, height, width)
        shares, places = ops.gather_references(
            metres, maps.projections, maps.fused, None if moved is None else moved.contiguous(),
            backend=self.backend,
        )  # fmt: skip
        places = places if told is None else told
        made = self.fusion.describe(shares, places / width, encoded.view(len(metres), -1), self.backend)
        return made.view(*points.shape[:2], -1), offsets

    @property
    def macs_per_sample(self) -> int:
        """See `RadianceField`; look-ups and what is paid once a pixel of the references are left out."""
        parts = [self.fusion.macs, *([self.position_warp.macs] if self.position_warp else [])]
        own = sum(point + self.config.references * each for point, each in parts)
        return super().macs_per_sample + own


def whole_places(projected: Tensor, offsets: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """How the public code moves a projected place: from the centre of its pixel, and within the picture.

    Args:
        projected: [P, R, 2] x, y in pixels, centres at + 0.5, anywhere.
        offsets: [P, R, 2] pixels.
        height, width: of the picture.

    Returns:
        [P, R, 2] the offset from the projected place to the moved one, which lies between the centres of the
        outermost pixels; and [P, R, 2] the centre of the pixel above and left of that one.

    Example:
        >>> place, offset = torch.tensor([[[3.7, -2.0]]]), torch.tensor([[[0.6, 0.25]]])
        >>> moved, told = whole_places(place, offset, 8, 8)
        >>> (place + moved).flatten().tolist(), told.flatten().tolist()
        ([4.099999904632568, 0.75], [3.5, 0.5])
    """
    last = projected.new_tensor([width - 1, height - 1])
    least = torch.zeros_like(last)
    pixel = projected.floor().clamp(least, last)
    moved = (pixel + offsets).clamp(least, last)
    return moved + 0.5 - projected, moved.detach().trunc() + 0.5
