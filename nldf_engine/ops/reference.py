"""Reference implementations: every operation in plain PyTorch, for any dtype and device, with autograd.

They are what the kernels are tested against, and what `backend="reference"` runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.ops.specs import GridSpec, Linear, MatteWeights, PlanesNetwork, SlotsWeights
from nldf_engine.ops.threads import one_thread

_GRID_PRIMES = (1, 2654435761, 805459861)
_LEAST_DEPTH = 1e-6


def rays_reference(pose: Tensor, intrinsics: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Reference of `ops.generate_rays`: origins and directions [F, P, 3] of pixels [F, P, 2]."""
    focal, center = intrinsics[:, None, :2], intrinsics[:, None, 2:]
    plane = (pixels - center) / focal
    camera = torch.cat([plane, torch.ones_like(plane[..., :1])], -1)
    directions = torch.matmul(camera, pose[:, :3, :3].transpose(1, 2))
    directions = directions / torch.linalg.vector_norm(directions, dim=-1, keepdim=True)
    return pose[:, None, :3, 3].expand_as(directions).contiguous(), directions


def beams_reference(
    origins: Tensor, directions: Tensor, near: float, far: float,
    points: int = 16, frequencies: int = 10, scale: float = 1.0,
    pad_to: int = 1, dtype: torch.dtype | None = None,
) -> Tensor:  # fmt: skip
    """Reference of `ops.encode_beams`: two [R, 3] to [R, 3 * points * (2 * frequencies + 1)], then padded."""
    distance = torch.linspace(near, far, points, dtype=origins.dtype, device=origins.device)
    x = (origins[:, None] + distance[:, None] * directions[:, None]) * scale
    x = x.reshape(len(origins), 3 * points)
    parts = [x]
    for level in range(frequencies):
        parts += [torch.sin(x * 2**level), torch.cos(x * 2**level)]
    encoded = torch.cat(parts, -1)
    return F.pad(encoded, (0, -encoded.shape[1] % pad_to)).to(dtype or encoded.dtype)


def segments_reference(
    sigma: Tensor, features: Tensor, delta: Tensor, segments: int = 4,
    background: Tensor | None = None, distances: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Reference of `ops.composite_segments`: features [R, S, C] to [R, M, C], opacity, weights and depth."""
    passed = torch.exp(-sigma * delta)
    through = torch.cumprod(torch.cat([passed.new_ones(len(passed), 1), passed], 1), 1)
    weights = through[:, : passed.shape[1]] * (1 - passed)
    size = sigma.shape[1] // segments
    composited = (weights[..., None] * features).reshape(len(sigma), segments, size, features.shape[2]).sum(2)
    left = through[:, passed.shape[1]]
    if background is not None:
        last = composited[:, -1:] + (left[:, None] * background)[:, None]
        composited = torch.cat([composited[:, :-1], last], 1)
    depth = (weights * (0 if distances is None else distances)).sum(1)
    return composited, 1 - left, weights, depth


def landmarks_reference(
    points: Tensor, landmarks: Tensor, rotations: Tensor, log_scales: Tensor, axis: Tensor | None = None,
    levels: int = 3, depth_scale: float = 5.0, cut: float = 4.3,
) -> Tensor:  # fmt: skip
    """Reference of `ops.encode_landmarks`: points [F, N, 3] and landmarks [F, L, 3] to [F, N, L * features].

    Without an axis [F, 3] the weights alone, [F, N, L].
    """
    w, x, y, z = (rotations / torch.linalg.vector_norm(rotations, dim=1, keepdim=True)).unbind(1)
    columns = torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y),
            2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x),
            2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y),
        ],
        1,
    ).view(-1, 3, 3)  # fmt: skip
    factors = torch.exp(-log_scales)[:, :, None] * columns
    offsets = points[:, :, None] - landmarks[:, None]
    squared = torch.einsum("lij,fnlj->fnli", factors, offsets).square().sum(3)
    weights = torch.where(squared > cut * cut, torch.zeros_like(squared), torch.exp(-0.5 * squared))
    if axis is None:
        return weights
    depth = depth_scale * torch.einsum("fnlj,fj->fnl", offsets, axis)
    parts = [weights * depth]
    for level in range(levels):
        angle = (math.pi * 2**level) * depth
        parts += [weights * torch.sin(angle), weights * torch.cos(angle)]
    return torch.cat(parts, 2)


def references_reference(
    points: Tensor, projections: Tensor, maps: Tensor, offsets: Tensor | None = None, nearest: bool = False
) -> tuple[Tensor, Tensor]:
    """Reference of `ops.gather_references`: points [P, 3], projections [R, 3, 4] and maps [R, H, W, C] to
    features [P, R, C] and places [P, R, 2].
    """
    seen = torch.einsum("rij,pj->pri", projections[:, :, :3], points) + projections[:, :, 3]
    depth = seen[..., 2:]
    behind = depth <= _LEAST_DEPTH
    places = (seen[..., :2] / torch.where(behind, 1, depth)).masked_fill(behind, 0)
    if offsets is not None:
        places = places + offsets
    count, height, width, _ = maps.shape
    rows = maps.flatten(0, 2)
    first = height * torch.arange(count, device=maps.device)

    def look_up(x: Tensor, y: Tensor) -> Tensor:
        return rows[(first + y) * width + x]

    if nearest:
        x, y = _pixel(places[..., 0], width), _pixel(places[..., 1], height)
        return look_up(x, y), places
    x0, x1, right = _between(places[..., 0], width)
    y0, y1, low = _between(places[..., 1], height)
    upper = look_up(x0, y0) * (1 - right) + look_up(x1, y0) * right
    lower = look_up(x0, y1) * (1 - right) + look_up(x1, y1) * right
    return upper * (1 - low) + lower * low, places


def _held(x: Tensor, low: float, high: float) -> Tensor:
    """`x.clamp(low, high)` whose derivative at the ends is 1, which torch's is not in every version."""
    return torch.where((x >= low) & (x <= high), x, x.detach().clamp(low, high))


def _pixel(place: Tensor, size: int) -> Tensor:
    """The pixel, int64, that a place [P, R] along an axis of `size` pixels lies in; NaN in the first."""
    return place.detach().nan_to_num(0).floor().clamp(0, size - 1).long()


def _between(place: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two neighbouring pixels [P, R], int64, and how far [P, R, 1] a place lies from the first's centre."""
    position = _held((place - 0.5).nan_to_num(0), 0, size - 1)
    cell = position.detach().floor().clamp(0, max(size - 2, 0))
    pixel = cell.long()
    return pixel, (pixel + 1).clamp(max=size - 1), (position - cell)[..., None]


def samples_reference(distances: Tensor, weights: Tensor, count: int, jitter: Tensor | None = None) -> Tensor:
    """Reference of `ops.resample`: distances and weights [R, S], jitter [R, N] or None to [R, S + N]."""
    middles = 0.5 * (distances[:, 1:] + distances[:, :-1])
    mass = weights[:, 1:-1].nan_to_num(0).clamp(0, 1e15) + 1e-5
    cdf = torch.cumsum(mass / mass.sum(-1, keepdim=True), -1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], -1)
    steps = torch.arange(count, dtype=cdf.dtype, device=cdf.device).expand(len(cdf), count)
    u = ((steps + (0.5 if jitter is None else jitter)) / count).contiguous()
    above = torch.searchsorted(cdf.contiguous(), u, right=True).clamp(1, cdf.shape[1] - 1)
    low, high = middles.gather(1, above - 1), middles.gather(1, above)
    cdf_low = cdf.gather(1, above - 1)
    share = ((u - cdf_low) / (cdf.gather(1, above) - cdf_low)).nan_to_num(0).clamp(0, 1)
    return torch.cat([distances, low + share * (high - low)], 1).sort(1).values


def adam_reference(
    table: Tensor, v_table: Tensor, first: Tensor, second: Tensor,
    step: float, root: float, beta1: float, beta2: float, epsilon: float,
) -> None:  # fmt: skip
    """Reference of `ops.step_adam`: changes table, first and second [N, F] where v_table isn't zero."""
    touched = (v_table != 0).any(1)
    g = v_table[touched]
    first[touched] = m = beta1 * first[touched] + (1 - beta1) * g
    second[touched] = v = beta2 * second[touched] + (1 - beta2) * g * g
    table[touched] -= step * m / (v.sqrt() / root + epsilon)


def compact_reference(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Reference of `ops.compact_rays`: mask [R] to order [R] and count [1], both int32."""
    chosen = mask.nonzero()[:, 0]
    others = (mask == 0).nonzero()[:, 0].flip(0)
    count = torch.full((1,), len(chosen), dtype=torch.int32, device=mask.device)
    return torch.cat([chosen, others]).to(torch.int32), count


def compact_over_reference(
    colors: Tensor, opacity: Tensor, order: Tensor,
    under_color: Tensor | None = None, under_alpha: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Reference of `ops.composite_rays`: colours [N, 3], opacity [N], order [R] to [R, 3] and alpha [R]."""
    chosen = order[: len(colors)].long()
    color, alpha = colors.new_zeros(len(order), 3), colors.new_zeros(len(order))
    color[chosen], alpha[chosen] = colors, opacity
    hidden = 1 - alpha
    if under_color is not None:
        color = color + hidden[:, None] * under_color
    if under_alpha is not None:
        alpha = alpha + hidden * under_alpha
    return color, alpha


def grid_reference(x: Tensor, table: Tensor, spec: GridSpec) -> Tensor:
    """Reference of `ops.encode_grid`: x [N, D] and table [entries, features] to [N, levels * features]."""
    corners = [[corner >> d & 1 for d in range(spec.dims)] for corner in range(1 << spec.dims)]
    wraps, clamped = spec.border == "wrap", _held(x, 0, 1)
    levels = []
    for i, resolution in enumerate(spec.resolutions):
        scale = resolution - 1 if spec.scales is None else spec.scales[i]
        position = (x if wraps else clamped) * scale + spec.shift
        first, last = (-(1 << 30), 1 << 30) if wraps else (0, resolution - 2)
        cell = position.detach().nan_to_num(0).floor().clamp(first, last)
        upper = position - cell
        if wraps:  # so far outside that a cell has no number of 32 bits, nothing is between vertices
            upper = torch.where(position.abs() > last, position - position, upper)
        if spec.interpolation == "smoothstep":
            upper = upper * upper * (3 - 2 * upper)
        weights, vertices = torch.stack([1 - upper, upper]), cell.long()
        out = x.new_zeros(len(x), spec.features)
        for corner in corners:
            weight = weights[corner[0], :, 0]
            for d in range(1, spec.dims):
                weight = weight * weights[corner[d], :, d]
            at = _grid_index(vertices + torch.tensor(corner, device=x.device), spec, i)
            out = out + weight[:, None] * table.index_select(0, spec.offsets[i] + at)
        levels.append(out)
    encoded = torch.cat(levels, 1)
    if spec.border == "zero":
        outside = ((x < 0) | (x > 1)).any(1)
        encoded = torch.where(outside[:, None], torch.zeros_like(encoded), encoded)
    return encoded


def _grid_index(vertices: Tensor, spec: GridSpec, level: int) -> Tensor:
    """[N] entries, from the level's first on, of its vertices [N, D] int64."""
    resolution, entries = spec.resolutions[level], spec.offsets[level + 1] - spec.offsets[level]
    if spec.hashed[level]:
        index = vertices[:, 0] & 0xFFFFFFFF
        for d, prime in enumerate((*_GRID_PRIMES[1:], spec.fourth_prime)[: spec.dims - 1], 1):
            index = index ^ (vertices[:, d] * prime & 0xFFFFFFFF)
        return index & (entries - 1)
    index, stride = vertices[:, 0], resolution
    for d in range(1, spec.dims):
        if stride <= entries or not spec.shared[level]:
            index = index + vertices[:, d] * stride
            stride *= resolution
    return (index & 0xFFFFFFFF) % entries if spec.shared[level] or spec.border == "wrap" else index


def resmlp_reference(
    x: Tensor, frame_bias: Tensor, head: Tensor, body: Sequence[Tensor], body_bias: Sequence[Tensor],
    tail: Tensor, tail_bias: Tensor,
) -> Tensor:  # fmt: skip
    """Reference of `ops.resmlp`: x [F, P, in], frame_bias [F, W] to [F, P, out]."""
    first = F.relu(torch.matmul(x, head.t()) + frame_bias[:, None])
    z = first
    for w1, b1, w2, b2 in zip(body[::2], body_bias[::2], body[1::2], body_bias[1::2], strict=True):
        z = z + F.linear(F.relu(F.linear(z, w1, b1)), w2, b2)
    return F.linear(z + first if len(body) else first, tail, tail_bias)


def planes_reference(
    origins: Tensor, directions: Tensor, warp_bias: Tensor, bias: Tensor, network: PlanesNetwork
) -> tuple[Tensor, Tensor]:
    """Reference of `ops.planes`: origins, directions [F, P, 3] to segments [F, P, M, 3], opacity [F, P]."""
    frames, count, _ = origins.shape
    lines = aim_lines_reference(origins, directions, network.box).reshape(-1, 4)
    own, second = (b[:, None].expand(-1, count, -1).flatten(0, 1) for b in (warp_bias, bias))
    segments, opacity = _planes_layers(lines, own, second, network)
    return segments.view(frames, count, len(network.depths), 3), opacity.view(frames, count)


def lines_reference(
    lines: Tensor, inside: Tensor | None, inputs: Tensor, network: PlanesNetwork
) -> tuple[Tensor, Tensor]:
    """Reference of `ops.shade_lines`: lines [F, P, 4] to segments [F, P, M, 3] and opacity [F, P]."""
    frames, count, _ = lines.shape
    chosen = lines.new_ones(frames, count, dtype=torch.bool) if inside is None else inside
    frame = chosen.nonzero()[:, 0]
    parts, biases = [], []
    for layers in (network.warp_layers, network.layers):
        weight, bias = layers[0]
        own, framed = weight.split([weight.shape[1] - network.frame, network.frame], 1)
        biases.append(F.linear(inputs, framed, bias)[frame])
        parts.append(((own, None), *layers[1:]))
    plain = replace(network, warp_layers=parts[0], layers=parts[1])
    seen, opaque = _planes_layers(lines[chosen], biases[0], biases[1], plain)
    segments = lines.new_zeros(frames, count, len(network.depths), 3).index_put((chosen,), seen)
    return segments, lines.new_zeros(frames, count).index_put((chosen,), opaque)


def _planes_layers(
    lines: Tensor, warp_bias: Tensor, bias: Tensor, network: PlanesNetwork
) -> tuple[Tensor, Tensor]:
    """Lines [N, 4] with biases [N, W] of their own to segments [N, M, 3] and opacity [N]."""
    depths, start, slope = network.depths, lines[:, :2], lines[:, 2:]
    middle = start + sum(depths) / len(depths) * slope
    seen = torch.cat([grid_reference(middle, network.warp_table, network.warp_spec), 2 * middle - 1], 1)
    warp = _layers_reference(seen, warp_bias, network.warp_layers)
    parts = [
        grid_reference(
            start + z * slope + network.warp_scale * warp[:, 2 * i : 2 * i + 2], table, network.spec
        )
        for i, (z, table) in enumerate(zip(depths, network.tables, strict=True))
    ]
    out = _layers_reference(torch.cat([*parts, warp[:, 2 * len(depths) :]], 1), bias, network.layers)
    opacity = torch.sigmoid(network.opacity_slope * out[:, -1:])
    segments = (out[:, :-1] + 0.5 / len(depths)) * opacity
    return segments.view(len(lines), len(depths), 3), opacity[:, 0]


def _layers_reference(x: Tensor, first_bias: Tensor, layers: Sequence[Linear]) -> Tensor:
    """x [N, in] through layers; the first one's bias [N, W] is the line's."""
    hidden = F.relu(x @ layers[0][0].t() + first_bias)
    for weight, bias in layers[1:-1]:
        hidden = F.relu(F.linear(hidden, weight, bias))
    return F.linear(hidden, *layers[-1])


def aim_reference(
    origins: Tensor, directions: Tensor, moves: Tensor, turns: Tensor, occupancy: Tensor, half_size: Tensor,
    depth: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Reference of `ops.aim_rays`."""
    moved = origins + moves[:, None]
    towards = origins + (depth - origins[..., 2:]) / directions[..., 2:] * directions - moved
    crossing = moved[..., :2] - moved[..., 2:] / towards[..., 2:] * towards[..., :2]
    place = crossing + crossing @ turns[:, :4].view(-1, 2, 2) + turns[:, None, 4:]
    turned = F.normalize(torch.cat([place, torch.zeros_like(place[..., :1])], -1) - moved, dim=-1)
    unit = place.detach() / half_size * 0.5 + 0.5
    inside = ((unit >= 0) & (unit < 1)).all(-1)
    cells = (unit.nan_to_num(0, 0, 0).clamp(0, 1 - 1e-6) * len(occupancy)).long()
    return moved, turned, inside & (occupancy[cells[..., 1], cells[..., 0]] > 0)


def aim_lines_reference(origins: Tensor, directions: Tensor, box: Tensor) -> Tensor:
    """Reference of `ops.rays_to_lines`: [..., 4] of rays [..., 3]."""
    size = box[2:] - box[:2]
    slope = directions[..., :2] / directions[..., 2:]
    start = (origins[..., :2] - origins[..., 2:] * slope - box[:2]) / size
    return torch.cat([start, slope / size], -1)


def matte_reference(
    segments: Tensor, opacity: Tensor, color: Tensor, alpha: Tensor, behind: Tensor, target: Tensor,
    mask: Tensor, interior: Tensor, plate: Tensor, dense: Tensor, labels: Tensor, labels_of: Sequence[int],
    weights: MatteWeights,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Reference of `ops.compare_matte`: error [F, P, 3], then total, squared and opacity's error."""
    background, head, torso = labels_of

    def mean(values: Tensor) -> Tensor:
        return values.sum() / max(1, values.numel())

    def weigh(error: Tensor, where: Tensor) -> Tensor:
        outside, inside = weights.outside, weights.inside
        return mean(error * (outside + (1 - outside) * where) * (1 + (inside - 1) * where * interior))

    under = color + (1 - alpha)[..., None] * behind
    error = segments.sum(-2) + (1 - opacity)[..., None] * under - target
    speaker = (labels != background).to(opacity)
    apart = (labels == head) | (labels == torso)
    both = 1 - (1 - opacity) * (1 - alpha)
    opaque = weigh((both - speaker).square(), speaker)
    opaque = opaque + weights.parts * weigh((opacity - mask).square() * apart, mask)
    hidden = (color - plate).square().sum(-1) + (alpha - dense).square()
    opaque = opaque + weights.hidden * mean(hidden * (labels == head))
    pixel = mean(error.square().sum(-1))
    edges = mean((error.square() + 1e-6).sqrt())
    total = pixel + 3 * weights.sharp * edges + weights.weight * opaque
    return error, total, pixel.detach(), opaque.detach()


def pixels_reference(
    even: Tensor, frames: Tensor, labels: Tensor, speaker: Tensor, own: Tensor, boxes: Tensor,
    parts: Sequence[int], background: int, of_own: Sequence[int],
) -> Tensor:  # fmt: skip
    """Reference of `ops.draw_pixels`: [F, P] of `even` [F, P, 2]; the sums of rows don't matter."""
    _, height, width = labels.shape
    made = []
    for numbers, frame in zip(even.double(), frames.tolist(), strict=True):
        label = labels[frame].flatten().long()
        every = torch.arange(height * width)
        among = [every[label != background], every, every[torch.isin(label, torch.tensor(list(of_own)))]]
        for part, drawn in enumerate(numbers.split(list(parts))):
            if part < 3:
                low, high = boxes[part, frame].view(2, 2)
                x, y = (low + torch.minimum((drawn * (high - low + 1)).long(), high - low)).t()
                made.append(y * width + x)
                continue
            found = among[part - 3] if len(among[part - 3]) else every
            made.append(found[(drawn[:, 0] * len(found)).long().clamp_max(len(found) - 1)])
    return torch.cat(made).view(even.shape[:2])


def pixels_look_reference(
    background: Tensor, frames: Tensor, pixels: Tensor, pictures: Tensor, labels: Tensor, plate: Tensor,
    motions: Tensor, reach: int, empty: int, of_own: Sequence[int],
) -> tuple[Tensor, ...]:  # fmt: skip
    """Reference of `ops.look_at_pixels`, on the CPU."""
    _, height, width = labels.shape
    frame, x, y = frames[:, None], pixels % width, pixels // width
    seen = labels[frame, y, x]
    points = torch.stack([x, y], -1).float() + 0.5
    beside = [
        labels[frame, (y + dy * reach).clamp(0, height - 1), (x + dx * reach).clamp(0, width - 1)] != empty
        for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1))
    ]
    mask = torch.isin(seen.long(), torch.tensor(list(of_own))).float()
    own = motions[frames]
    where = (points / width - own[:, None, :, 2]) @ torch.linalg.inv(own[:, :, :2]).mT
    where = where * where.new_tensor([2.0, 2.0 * width / height]) - 1
    found = F.grid_sample(plate.permute(2, 0, 1)[None], where[None], "bilinear", "border", False)[0]
    guess, dense = found[:3].permute(1, 2, 0) * found[3][..., None], found[3]
    return (
        pictures[frame, y, x] / 255, background[y, x], points, mask, torch.stack(beside).all(0).float(),
        guess, dense, seen,
    )  # fmt: skip


def linear_reference(
    x: Tensor, weights: Tensor, sums: Tensor, scale: Tensor, bias: Tensor, gelu: bool = False,
    norm_weight: Tensor | None = None, norm_bias: Tensor | None = None, residual: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Reference of `ops.linear`: [R, N] of x [R, K] and a `PackedLinear`'s tensors; `sums` doesn't matter."""
    if norm_weight is not None:
        x = F.layer_norm(x, (x.shape[1],), norm_weight, norm_bias)
    size = x.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
    weight = weights.transpose(1, 2).reshape(len(scale), x.shape[1])
    # In float64, where sums of these integers are exact.
    made = ((x / size).round().double() @ weight.t().double()).to(x.dtype) * size * scale + bias
    made = F.gelu(made) if gelu else made
    return made if residual is None else made + residual


def affine_reference(x: Tensor, weight: Tensor, bias: Tensor, step: int, gelu: bool = False) -> Tensor:
    """Reference of `ops.affine`: [R, N] of x [T, C], weight [N, K] and bias [N]."""
    inputs = weight.shape[1]
    if x.numel() < inputs:
        return x.new_empty(0, len(bias))
    rows = x.flatten().unfold(0, inputs, step)
    # One by one: how a library adds up a row depends on the rows beside it, and on threads.
    with one_thread():
        made = torch.cat([F.linear(row, weight, bias) for row in rows.split(1)])
    return F.gelu(made) if gelu else made


def attention_reference(rows: Tensor, heads: int, query: Tensor | None = None) -> Tensor:
    """Reference of `ops.attend`: [N, n, D] of rows [N, L, 3 D] or [N, L, 2 D], and of query [N, n, D]."""
    if query is None:
        query, rows = rows.split([rows.shape[2] // 3, rows.shape[2] // 3 * 2], 2)
    parts = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query, *rows.chunk(2, 2)))
    return F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)


def slots_reference(shares: Tensor, places: Tensor, encoded: Tensor, weights: SlotsWeights) -> Tensor:
    """Reference of `ops.attend_slots`: [P, K W + E] of [P, R, h + W], [P, R, 2] and [P, E]."""
    hidden, wide = shares.split([len(weights.near[1]), weights.start.shape[1]], -1)
    near = torch.cat([places, F.relu(hidden + F.linear(places, *weights.near))], -1)
    mixed = wide + F.linear(encoded, *weights.point)[:, None] + F.linear(near, weights.mix)
    inputs = F.layer_norm(F.leaky_relu(mixed), mixed.shape[-1:])
    slots = weights.start.expand(len(shares), -1, -1)
    for _ in range(weights.rounds):
        normed = F.layer_norm(slots, slots.shape[-1:])
        likeness = F.linear(normed, *weights.query) @ inputs.mT + F.linear(normed, *weights.score)
        shared = likeness.softmax(1) + 1e-8
        found = (shared / shared.sum(2, keepdim=True)) @ inputs
        reset, keep, new = F.linear(found, *weights.gates).chunk(3, -1)
        own_reset, own_keep, own_new = F.linear(slots, *weights.own).chunk(3, -1)
        new = torch.tanh(new + torch.sigmoid(reset + own_reset) * own_new)
        slots = new + torch.sigmoid(keep + own_keep) * (slots - new)
        behind = F.linear(F.layer_norm(slots, slots.shape[-1:]), *weights.first)
        slots = slots + F.linear(F.relu(behind), *weights.second)
    return torch.cat([slots.flatten(1), encoded], 1)
