"""Operations with a compiled kernel, each with a slow reference implementation in `ops.reference`.

Every operation takes contiguous float32 tensors on the CPU or on CUDA (float64 on the CPU too, for
gradient checks), never casts or moves them, and raises `TypeError` or `ValueError` naming the argument
that doesn't fit. `backend="native"` runs the compiled kernel, `backend="reference"` the
reference; the environment variable `NLDF_BACKEND=reference` does so everywhere. Nothing falls back by itself:
where the kernel isn't built, `base.errors.MissingBackend` says how to build it.
"""

from nldf_engine.ops import reference
from nldf_engine.ops.adam import adam_rates, step_adam
from nldf_engine.ops.affine import PackedAffine, affine, pack_affine
from nldf_engine.ops.aim import aim_rays, rays_to_lines
from nldf_engine.ops.attention import attend
from nldf_engine.ops.beams import encode_beams
from nldf_engine.ops.compact import compact_rays, composite_rays
from nldf_engine.ops.convnet import PackedConvnet, convnet, pack_convnet
from nldf_engine.ops.grid import encode_grid
from nldf_engine.ops.landmarks import encode_landmarks
from nldf_engine.ops.linear import PackedLinear, linear, pack_linear
from nldf_engine.ops.lines import shade_lines
from nldf_engine.ops.matte import Compared, compare_matte
from nldf_engine.ops.native import backends
from nldf_engine.ops.packed_planes import PackedPlanes, pack_planes
from nldf_engine.ops.pixels import Looked, draw_pixels, look_at_pixels, pack_pixels, unpack_pixels
from nldf_engine.ops.planes import planes
from nldf_engine.ops.portrait import PortraitFrames, PortraitPart, PortraitView, render_portrait
from nldf_engine.ops.rays import generate_rays
from nldf_engine.ops.references import gather_references
from nldf_engine.ops.resmlp import PackedResmlp, pack_resmlp, resmlp
from nldf_engine.ops.samples import resample
from nldf_engine.ops.segments import composite_segments
from nldf_engine.ops.slots import PackedSlots, attend_slots, pack_slots
from nldf_engine.ops.specs import GridSpec, MatteWeights, PlanesNetwork, ResmlpWeights, SlotsWeights
from nldf_engine.ops.threads import one_thread

__all__ = [
    "Compared",
    "GridSpec",
    "Looked",
    "MatteWeights",
    "PackedAffine",
    "PackedConvnet",
    "PackedLinear",
    "PackedPlanes",
    "PackedResmlp",
    "PackedSlots",
    "PlanesNetwork",
    "PortraitFrames",
    "PortraitPart",
    "PortraitView",
    "ResmlpWeights",
    "SlotsWeights",
    "adam_rates",
    "affine",
    "aim_rays",
    "attend",
    "attend_slots",
    "backends",
    "compact_rays",
    "compare_matte",
    "composite_rays",
    "composite_segments",
    "convnet",
    "draw_pixels",
    "encode_beams",
    "encode_grid",
    "encode_landmarks",
    "gather_references",
    "generate_rays",
    "linear",
    "look_at_pixels",
    "one_thread",
    "pack_affine",
    "pack_convnet",
    "pack_linear",
    "pack_pixels",
    "pack_planes",
    "pack_resmlp",
    "pack_slots",
    "planes",
    "rays_to_lines",
    "reference",
    "render_portrait",
    "resample",
    "resmlp",
    "shade_lines",
    "step_adam",
    "unpack_pixels",
]
