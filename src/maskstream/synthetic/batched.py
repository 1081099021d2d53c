"""Draws many scenes at once as tensors, on any device, for training.

    Scene × B ─ batch ─► SceneBatch ─ draw ─► Clips: frames, labels, flow, occlusion

The picture is cut into square cells. For every cell of every frame the parts that may be seen in it are found from
bounds on their distances: usually one or two, because nothing is drawn behind a part that fills the cell. These pairs
of a cell and a part are drawn all at once, then painted over each other from far to near. The only loop is over the
layers of the most crowded cell, never over scenes, frames, cells or pixels.

Differences from `render`: there is neither motion blur nor compression, the noise is another, and rounding may decide
otherwise at outlines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from maskstream.types import InputError

from .exact import composed
from .render import GRAIN, SHADOW
from .scene import HALF_PLANES, THINGS, Scene, ShapeKind
from .shapes import invert, planes_in_picture
from .tiles import SIDE

Array: TypeAlias = NDArray[np.generic]

_CELL = 8
"""Pixels along the side of a cell."""
_BLOCK = 4
"""Cells along the side of a block."""
_FAR = 1e3
"""A distance that is inside of everything."""
_HALF = 0.5 - 1e-4
"""Pixels of which a part covers so much are its own: the middle is inside, up to rounding."""
_PIXELS_AT_ONCE = {"cpu": 2**17, "cuda": 2**22}
"""On a CPU as many as its caches hold, on a GPU as many as keep it busy."""
_BOUNDS_OF_NOTHING = np.array([-np.inf, -np.inf, np.inf, np.inf], np.float32)
_FORMS_OF_NOTHING = np.array([[0, 0, 0]] * 2 + [[0, 0, _FAR]] * HALF_PLANES, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Clips:
    """B clips of T frames with their truth.

    Attributes:
        frames_bt3hw: ``uint8[B, T, 3, H, W]``, RGB.
        entity_bthw: ``int64[B, T, H, W]``, ids of entities, 0 for void.
        flow_bt2hw: ``float32[B, T - 1, 2, H, W]``, x and y in pixels to the next frame; 0 across a cut.
        occluded_bthw: ``bool[B, T - 1, H, W]``, where the next frame does not show the same point: it is covered, out
            of the picture, gone, or another shot has begun.
        category_be: ``int64[B, 1 + E]``, category of each entity by its id; 0 for void and for ids that no entity has.
        is_thing_be: ``bool[B, 1 + E]``.
    """

    frames_bt3hw: Tensor
    entity_bthw: Tensor
    flow_bt2hw: Tensor
    occluded_bthw: Tensor
    category_be: Tensor
    is_thing_be: Tensor

    def category_bthw(self) -> Tensor:
        """``int64[B, T, H, W]``, category of each pixel, 0 for void."""
        return self.category_be.gather(1, self.entity_bthw.flatten(1)).view_as(self.entity_bthw)


@dataclass(frozen=True, slots=True, eq=False)
class SceneBatch:
    """B scenes of T frames, padded to P parts. Part 0 is nothing: black, everywhere, behind all others.

    A linear form is (a, b, c) and means ``a x + b y + c`` at the place (x, y) of the picture, which is 1 high.

    Attributes:
        forms_btp83: ``float32[B, T, P, 8, 3]``, the part's coordinates u and v, and distances inside its half planes
            in heights of the picture.
        bounds_btp4: ``float32[B, T, P, 4]``, x0, y0, x1, y1 of round parts; infinite for others.
        step_btp23: ``float32[B, T - 1, P, 2, 3]``, forms of the motion to the next frame; 0 before a cut and for what
            is not shown there.
        shown_btp: ``bool[B, T, P]``.
        entity_bp: ``int64[B, P]``.
        is_round_bp: ``bool[B, P]``, whether it is an ellipse or a capsule.
        radius_bp3: ``float32[B, P, 3]``, of round parts: radius at the start, how much it grows, and length.
        is_shadow_bp: ``bool[B, P]``.
        texels_bp: ``float32[B, P]``, texels for each unit of the part's coordinates.
        tile_bp: ``int64[B, P]``, first texel of its texture in ``tiles_k``.
        photo_bp: ``int64[B, P]``, first texel of its photo in ``photos_3k``, or -1.
        paint_bp6: ``float32[B, P, 6]``, RGB in [0, 1] where the texture is 0, and what is added where it is 1.
        grain_b: ``int64[B]``, first texel of the grain in ``tiles_k``.
        tiles_k: ``int32[K]``, each texel with its neighbours to the right, below and below right, a byte each.
        photos_3k: ``int32[3, K]``, the same of photos, for each channel.
        light_bt3: ``float32[B, T, 3]``.
        noise_b: ``float32[B]``, standard deviation in levels of 255.
        gone_btp: ``bool[B, T - 1, P]``, whether the next frame does not show the part, or is of another shot.
        category_be: see `Clips`.
        is_thing_be: see `Clips`.
    """

    forms_btp83: Tensor
    bounds_btp4: Tensor
    step_btp23: Tensor
    shown_btp: Tensor
    entity_bp: Tensor
    is_round_bp: Tensor
    radius_bp3: Tensor
    is_shadow_bp: Tensor
    texels_bp: Tensor
    tile_bp: Tensor
    photo_bp: Tensor
    paint_bp6: Tensor
    grain_b: Tensor
    tiles_k: Tensor
    photos_3k: Tensor
    light_bt3: Tensor
    noise_b: Tensor
    gone_btp: Tensor
    category_be: Tensor
    is_thing_be: Tensor

    def to(self, device: torch.device | str) -> SceneBatch:
        """The same scenes on another device."""
        return SceneBatch(*(getattr(self, name).to(device, non_blocking=True) for name in self.__slots__))


def batch(scenes: Sequence[Scene]) -> SceneBatch:
    """Stack scenes.

    Raises:
        InputError: there is none, or they have different numbers of frames.
    """
    lengths = sorted({scene.frame_count for scene in scenes})
    if len(lengths) != 1:
        raise InputError(f"a batch takes scenes of one number of frames, not of {lengths or 'no scene at all'}")
    most = 1 + max(len(scene.parts) for scene in scenes)
    tiles, first_tiles = _shared([scene.textures for scene in scenes])
    photos, first_photos = _shared([scene.photos for scene in scenes])

    def over_parts(values: Callable[[Scene], Array], nothing: ArrayLike = 0, *, axis: int = 0) -> Tensor:
        return torch.stack([_padded(values(scene), most, nothing, axis=axis) for scene in scenes])

    shown_btp = over_parts(_shown, axis=1)
    shown_btp[..., 0] = True
    photo_bp = over_parts(lambda scene: scene.parts.photo_p, -1)
    category_be = _by_id(scenes)
    return SceneBatch(
        forms_btp83=over_parts(_forms, _FORMS_OF_NOTHING, axis=1),
        bounds_btp4=over_parts(_bounds, _BOUNDS_OF_NOTHING, axis=1),
        step_btp23=over_parts(_step, axis=1),
        shown_btp=shown_btp,
        entity_bp=over_parts(lambda scene: scene.parts.entity_p),
        is_round_bp=over_parts(_is_round),
        radius_bp3=over_parts(_radius),
        is_shadow_bp=over_parts(lambda scene: scene.parts.shadow_p),
        texels_bp=over_parts(lambda scene: scene.parts.texture_scale_p * np.float32(SIDE)),
        tile_bp=over_parts(lambda scene: scene.parts.texture_p) * SIDE**2 + first_tiles[:, None],
        photo_bp=torch.where(photo_bp < 0, -1, photo_bp * SIDE**2 + first_photos[:, None]),
        paint_bp6=over_parts(
            lambda scene: np.concatenate(
                [scene.parts.colour_p3, scene.parts.second_p3 - scene.parts.colour_p3], axis=1, dtype=np.float32
            )
        ),
        grain_b=first_tiles,
        tiles_k=_with_neighbours(tiles, mirrored=False),
        photos_3k=_with_neighbours(photos, mirrored=True).T.contiguous(),
        light_bt3=torch.from_numpy(np.stack([scene.light_t3 for scene in scenes])),
        noise_b=torch.tensor([float(scene.noise) for scene in scenes]),
        gone_btp=over_parts(_gone, nothing=True, axis=1),
        category_be=category_be,
        is_thing_be=(category_be > 0) & (category_be <= len(THINGS)),
    )


def _padded(values: Array, most: int, nothing: ArrayLike, *, axis: int) -> Tensor:
    """Put nothing before the parts, and behind them until there are ``most``."""
    shape = list(values.shape)
    shape[axis] = most
    padded = np.empty(shape, values.dtype)
    padded[...] = nothing
    own = (slice(None),) * axis + (slice(1, 1 + values.shape[axis]),)
    padded[own] = values
    return torch.from_numpy(padded)


def _inverse(scene: Scene) -> NDArray[np.float64]:
    place = scene.parts.place_tp23
    return invert(place.reshape(-1, 2, 3)).reshape(place.shape)


def _shown(scene: Scene) -> NDArray[np.bool_]:
    """Whether each part can be seen, ``bool[T, P]``: it is there, and its place is no line or point."""
    seen: NDArray[np.bool_] = scene.parts.shown_tp & (_inverse(scene)[..., :2] != 0).any(axis=(2, 3))
    return seen


def _is_round(scene: Scene) -> NDArray[np.bool_]:
    return np.isin(scene.parts.kind_p, (ShapeKind.ELLIPSE, ShapeKind.CAPSULE))


def _forms(scene: Scene) -> NDArray[np.float32]:
    """``float32[T, P, 8, 3]``, see `SceneBatch`."""
    inverse = _inverse(scene)
    params = np.tile(scene.parts.params_pk, (scene.frame_count, 1))
    planes = planes_in_picture(params, inverse.reshape(-1, 2, 3)).reshape(*inverse.shape[:2], HALF_PLANES, 3)
    planes[:, scene.parts.kind_p != ShapeKind.POLYGON] = (0, 0, _FAR)
    return np.concatenate([inverse, planes], axis=2, dtype=np.float32)


def _bounds(scene: Scene) -> NDArray[np.float32]:
    """``float32[T, P, 4]``, see `SceneBatch`."""
    place, radius = scene.parts.place_tp23, _radius(scene)
    ends = np.stack([place[..., 2], place[..., 2] + place[..., 0] * radius[:, 2:]])
    reach = (
        np.linalg.norm(place[..., :2], axis=3) * np.stack([radius[:, 0], radius[:, 0] + radius[:, 1]])[:, None, :, None]
    )
    bounds = np.concatenate([(ends - reach).min(axis=0), (ends + reach).max(axis=0)], axis=2)
    return np.where(_is_round(scene)[:, None], bounds, _BOUNDS_OF_NOTHING)


def _gone(scene: Scene) -> NDArray[np.bool_]:
    """``bool[T - 1, P]``, see `SceneBatch`."""
    gone = ~_shown(scene)[1:]
    gone[[cut - 1 for cut in scene.cuts if 0 < cut < scene.frame_count]] = True
    return gone


def _step(scene: Scene) -> NDArray[np.float32]:
    """``float32[T - 1, P, 2, 3]``, see `SceneBatch`."""
    place = scene.parts.place_tp23.astype(np.float64)
    # (A' - A) u + (b' - b) with u = M x + m: exactly 0 for what stays
    step = composed(place[1:] - place[:-1], _inverse(scene)[:-1])
    step[_gone(scene) | ~_shown(scene)[:-1]] = 0
    return step.astype(np.float32)


def _radius(scene: Scene) -> NDArray[np.float32]:
    """``float32[P, 3]``, see `SceneBatch`."""
    start, end = scene.parts.params_pk[:, 0], scene.parts.params_pk[:, 1]
    capsule = np.stack([start, end - start, np.ones_like(start)], axis=1)
    return np.where((scene.parts.kind_p == ShapeKind.CAPSULE)[:, None], capsule, np.array([1, 0, 0], np.float32))


def _by_id(scenes: Sequence[Scene]) -> Tensor:
    """Categories of entities, ``int64[B, 1 + E]``."""
    most = max((entity.id for scene in scenes for entity in scene.entities), default=0)
    category = torch.zeros(len(scenes), 1 + most, dtype=torch.int64)
    for row, scene in enumerate(scenes):
        for entity in scene.entities:
            category[row, entity.id] = entity.category
    return category


def _shared(stacks: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], Tensor]:
    """Join tiles, equal stacks once; and the first texel of each stack, ``int64[B]``."""
    found: dict[bytes, int] = {}
    kept, texels, first = [], 0, []
    for stack in stacks:
        key = hashlib.sha256(stack.tobytes()).digest()
        if key not in found:
            found[key] = texels
            kept.append(stack)
            texels += len(stack) * SIDE**2
        first.append(found[key])
    return np.concatenate(kept), torch.tensor(first)


def _with_neighbours(tiles: NDArray[np.uint8], *, mirrored: bool) -> Tensor:
    """Pack each texel with its neighbours to the right, below and below right: one look-up instead of four."""
    mode: Literal["symmetric", "wrap"] = "symmetric" if mirrored else "wrap"
    padded = np.pad(tiles, [(0, 0), (0, 1), (0, 1)] + [(0, 0)] * (tiles.ndim - 3), mode=mode)
    four = np.stack([padded[:, :-1, :-1], padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:]], axis=-1)
    packed = np.ascontiguousarray(four).view(np.int32)[..., 0]
    return torch.from_numpy(packed.reshape(-1, *tiles.shape[3:]))


def draw(
    batch: SceneBatch,
    size_hw: tuple[int, int],
    *,
    noise: bool = True,
    motion: bool = True,
    generator: torch.Generator | None = None,
) -> Clips:
    """Draw scenes on the device they are on.

    Args:
        batch: what to draw.
        size_hw: height and width in pixels.
        noise: whether to add the grain of the camera.
        motion: whether flow and occlusion are wanted; otherwise they are empty, and a sixth of the time is saved.
        generator: of the noise, on the same device.
    """
    clips, frames = batch.shown_btp.shape[:2]
    device = batch.shown_btp.device
    at_once = _frames_at_once(device, size_hw)
    pictures = torch.empty(clips * frames, 3, *size_hw, dtype=torch.uint8, device=device)
    parts = torch.empty(clips * frames, *size_hw, dtype=torch.int32, device=device)
    for first in range(0, clips * frames, at_once):
        some = torch.arange(first, min(first + at_once, clips * frames), device=device)
        scene = some // frames
        picture, parts[first : first + at_once] = _draw_frames(batch, some, size_hw)
        picture *= 255 * batch.light_bt3.flatten(0, 1)[some, :, None, None]
        if noise:
            white = torch.rand(len(some), 1, *size_hw, generator=generator, device=device)
            spread = 12**0.5 * batch.noise_b[scene, None, None, None]
            picture += white.sub_(0.5).mul_(spread)
        pictures[first : first + at_once] = picture.round_().clamp_(0, 255).to(torch.uint8)
    part_bthw = parts.view(clips, frames, *size_hw)
    flow, occluded = _motion(batch, part_bthw if motion else part_bthw[:, :1])
    return Clips(
        pictures.view(clips, frames, 3, *size_hw),
        batch.entity_bp.gather(1, part_bthw.flatten(1).long()).view_as(part_bthw),
        flow,
        occluded,
        batch.category_be,
        batch.is_thing_be,
    )


def _frames_at_once(device: torch.device, size_hw: tuple[int, int]) -> int:
    pixels = _PIXELS_AT_ONCE.get(device.type, _PIXELS_AT_ONCE["cuda"])
    return max(1, pixels // (size_hw[0] * size_hw[1]))


@dataclass(frozen=True, slots=True)
class _Pairs:
    """N pairs of a cell and a part to draw in it: first the base of every cell, then the next layer of those that have
    one, and so on. Cells are sorted so that each layer is on the first ones.

    Attributes:
        row_n: ``int64[N]``, frame × parts + part.
        cell_n: ``int64[N]``, frame × cells of a frame + cell.
        layers: how many cells have each layer.
    """

    row_n: Tensor
    cell_n: Tensor
    layers: tuple[int, ...]


def _draw_frames(batch: SceneBatch, frames_f: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Light of some frames, ``float32[F, 3, H, W]`` in [0, 1], and the nearest part, ``int32[F, H, W]``."""
    (height, width), frames = size_hw, len(frames_f)
    rows, columns = -(-height // _CELL), -(-width // _CELL)
    parts = batch.shown_btp.shape[2]
    forms_f = batch.forms_btp83.flatten(0, 1)[frames_f]
    pairs = _find_pairs(batch, frames_f, forms_f, height, (rows, columns))

    place_n, base = pairs.cell_n % (rows * columns), pairs.layers[0]
    corner_n = torch.stack([place_n % columns, place_n // columns], 1) * (_CELL / height)
    forms_n = _seen_from(forms_f.flatten(0, 1)[pairs.row_n], corner_n)
    part_n = pairs.row_n % parts
    of_part_n = frames_f[pairs.row_n // parts] // batch.shown_btp.shape[1] * parts + part_n
    basis = _middles(_CELL, _CELL, 1 / height, frames_f.device)
    colour_n3x = _colours(batch, forms_n, of_part_n, basis)
    cover_nx = _coverage(batch, forms_n[base:], of_part_n[base:], basis, height)
    is_shadow = batch.is_shadow_bp.flatten()[of_part_n[base:], None]
    inside_nx = (cover_nx >= _HALF) & ~is_shadow
    cover_nx *= torch.where(is_shadow, SHADOW, 1.0)

    picture, label_n = colour_n3x[:base], part_n.int()[:, None]
    nearest = label_n[:base].repeat(1, _CELL**2)
    first = 0
    for count in pairs.layers[1:]:
        layer = slice(first, first + count)
        picture[:count].lerp_(colour_n3x[base:][layer], cover_nx[layer, None])
        nearest[:count] = torch.where(inside_nx[layer], label_n[base:][layer], nearest[:count])
        first += count
    order = _inverse_order(pairs.cell_n[:base])
    picture = picture[order].view(frames, rows, columns, 3, _CELL, _CELL).permute(0, 3, 1, 4, 2, 5)
    nearest = nearest[order].view(frames, rows, columns, _CELL, _CELL).permute(0, 1, 3, 2, 4)
    picture = picture.reshape(frames, 3, rows * _CELL, columns * _CELL)
    nearest = nearest.reshape(frames, rows * _CELL, columns * _CELL)
    return picture[..., :height, :width], nearest[..., :height, :width]


def _find_pairs(batch: SceneBatch, frames_f: Tensor, forms_f: Tensor, height: int, cells: tuple[int, int]) -> _Pairs:
    """Find what may be seen in blocks of cells, then what of it in their cells."""
    (rows, columns), (frames, parts), device = cells, forms_f.shape[:2], frames_f.device
    scene_f = frames_f // batch.shown_btp.shape[1]
    block = _BLOCK * _CELL / height
    down, across = -(-rows // _BLOCK), -(-columns // _BLOCK)
    row_n = torch.arange(frames * parts, device=device)
    of_part_n = (scene_f[:, None] * parts + torch.arange(parts, device=device)).flatten()
    bounds_n4 = batch.bounds_btp4.flatten(0, 1)[frames_f].flatten(0, 1)
    shown = batch.shown_btp.flatten(0, 1)[frames_f].flatten()
    is_body = (shown & ~batch.is_shadow_bp.flatten()[of_part_n])[:, None]
    middles = _middles(down, across, block, device)
    touches, fills = _touches(batch, forms_f.flatten(0, 1), bounds_n4, of_part_n, middles, block, height)
    number = (row_n % parts)[:, None]
    base = torch.where(fills & is_body, number, 0).view(frames, parts, -1).amax(1).repeat_interleave(parts, 0)
    # nonzero and tolist ask the device for sizes: the only times that a chunk waits for it
    row_n, block_n = (touches & shown[:, None] & (number >= base)).nonzero().unbind(1)

    line_n, column_n = block_n // across, block_n % across
    corner_n = torch.stack([column_n, line_n], 1) * block
    forms_n = _seen_from(forms_f.flatten(0, 1)[row_n], corner_n)
    middles = _middles(_BLOCK, _BLOCK, block / _BLOCK, device)
    bounds_n4 = bounds_n4[row_n] - corner_n.repeat(1, 2)
    touches, fills = _touches(batch, forms_n, bounds_n4, of_part_n[row_n], middles, block / _BLOCK, height)
    number, inner = row_n[:, None] % parts, torch.arange(_BLOCK**2, device=device)
    line_nx, column_nx = line_n[:, None] * _BLOCK + inner // _BLOCK, column_n[:, None] * _BLOCK + inner % _BLOCK
    is_cell = (line_nx < rows) & (column_nx < columns)
    cell_nx = ((row_n[:, None] // parts * rows + line_nx) * columns + column_nx).where(is_cell, 0)
    base_c = torch.zeros(frames * rows * columns, dtype=torch.int64, device=device)
    filled_by = torch.where(fills & is_cell & is_body[row_n], number, 0)
    base_c.scatter_reduce_(0, cell_nx.flatten(), filled_by.flatten(), "amax")
    place_n, inner_n = (touches & is_cell & (number >= base_c[cell_nx])).nonzero().unbind(1)

    row_n, cell_n = row_n[place_n], cell_nx[place_n, inner_n]
    order_n = (cell_n * parts + row_n % parts).argsort()
    row_n, cell_n = row_n[order_n], cell_n[order_n]
    depth_c = torch.zeros_like(base_c).scatter_add_(0, cell_n, torch.ones_like(cell_n))
    rank_c = _inverse_order(depth_c.argsort(descending=True))
    layer_n = torch.arange(len(cell_n), device=device) - (depth_c.cumsum(0) - depth_c)[cell_n]
    order_n = (layer_n * len(depth_c) + rank_c[cell_n]).argsort()
    return _Pairs(row_n[order_n], cell_n[order_n], tuple(layer_n.bincount().tolist()))


def _middles(rows: int, columns: int, step: float, device: torch.device) -> Tensor:
    """Middles of squares in reading order, ``float32[3, X]``: x, y and 1."""
    x = (torch.arange(columns, device=device) + 0.5) * step
    y = (torch.arange(rows, device=device) + 0.5) * step
    return torch.stack([x.repeat(rows), y.repeat_interleave(columns), torch.ones_like(x).repeat(rows)])


def _seen_from(forms_n83: Tensor, origin_n2: Tensor) -> Tensor:
    """The same forms, of places relative to another origin."""
    shift = (forms_n83[..., :2] * origin_n2[:, None]).sum(-1, keepdim=True)
    return torch.cat([forms_n83[..., :2], forms_n83[..., 2:] + shift], -1)


def _inverse_order(order_c: Tensor) -> Tensor:
    return torch.empty_like(order_c).scatter_(0, order_c, torch.arange(len(order_c), device=order_c.device))


def _touches(
    batch: SceneBatch,
    forms_n83: Tensor,
    bounds_n4: Tensor,
    of_part_n: Tensor,
    middles_3x: Tensor,
    side: float,
    height: int,
) -> tuple[Tensor, Tensor]:
    """Whether parts may reach into squares with these middles, and whether they fill them for sure: ``bool[N, X]``."""
    # From the middle to the sides, and the soft edge beyond; a little more, so that what fills a block fills its cells.
    reach = side / 2 * 1.001 + 1 / height
    is_round = batch.is_round_bp.flatten()[of_part_n, None]
    start, growth, length = batch.radius_bp3.flatten(0, 1)[of_part_n, :, None].unbind(1)
    u, v = forms_n83[:, 0] @ middles_3x, forms_n83[:, 1] @ middles_3x
    along = torch.minimum(u.clamp(min=0), length)
    inside_round = start + growth * along - torch.hypot(u - along, v)
    a, b = forms_n83[:, :2, 0], forms_n83[:, :2, 1]
    margin_round = torch.maximum((a + b).norm(dim=1), (a - b).norm(dim=1))[:, None] * (1 + growth.abs()) * reach
    inside = torch.where(is_round, inside_round, _inside_planes(forms_n83[:, 2:], middles_3x))
    margin = torch.where(is_round, margin_round, reach * 2**0.5)
    x0, y0, x1, y1 = bounds_n4[..., None].unbind(1)
    x, y, _ = middles_3x
    near = (x > x0 - reach) & (x < x1 + reach) & (y > y0 - reach) & (y < y1 + reach)
    return (inside > -margin) & near, inside > margin


def _inside_planes(planes_n63: Tensor, basis_3x: Tensor) -> Tensor:
    """Distance inside of polygons, ``float32[N, X]``."""
    least = planes_n63[:, 0] @ basis_3x
    for plane in range(1, HALF_PLANES):
        torch.minimum(least, planes_n63[:, plane] @ basis_3x, out=least)
    return least


def _coverage(batch: SceneBatch, forms_n83: Tensor, of_part_n: Tensor, basis_3x: Tensor, height: int) -> Tensor:
    """How much of each pixel of a pair's cell its part covers, ``float32[N, X]``."""
    inside_nx = forms_n83.new_empty(len(forms_n83), basis_3x.shape[1])
    is_round = batch.is_round_bp.flatten()[of_part_n]
    some = is_round.nonzero()[:, 0]
    inside_nx[some] = _inside_round(forms_n83[some, :2], batch.radius_bp3.flatten(0, 1)[of_part_n[some]], basis_3x)
    some = (~is_round).nonzero()[:, 0]
    inside_nx[some] = _inside_planes(forms_n83[some, 2:], basis_3x)
    return inside_nx.mul_(height).add_(0.5).clamp_(0, 1)


def _inside_round(forms_n23: Tensor, radius_n3: Tensor, basis_3x: Tensor) -> Tensor:
    """Distance inside of ellipses and capsules, as `shapes` defines it."""
    start, growth, length = radius_n3[..., None].unbind(1)
    u, v = forms_n23[:, 0] @ basis_3x, forms_n23[:, 1] @ basis_3x
    along = torch.minimum(u.clamp(min=0), length)
    u -= along
    room = along.mul_(growth).add_(start).square_()
    (a, b), (c, d) = forms_n23[:, 0, :2, None].unbind(1), forms_n23[:, 1, :2, None].unbind(1)
    slope = ((a * u + c * v).square_() + (b * u + d * v).square_()).add_(1e-12).rsqrt_()
    return room.addcmul_(u, u, value=-1).addcmul_(v, v, value=-1).mul_(slope).mul_(0.5)


def _colours(batch: SceneBatch, forms_n83: Tensor, of_part_n: Tensor, basis_3x: Tensor) -> Tensor:
    """Light of the parts in the pixels of their cells, ``float32[N, 3, X]``, in [0, 1]; that of shadows is 0."""
    texels = batch.texels_bp.flatten()[of_part_n, None]
    u, v = forms_n83[:, 0] * texels @ basis_3x, forms_n83[:, 1] * texels @ basis_3x
    tile = batch.tile_bp.flatten()[of_part_n, None]
    grain = batch.grain_b[of_part_n // batch.shown_btp.shape[2], None]
    level, shade = _read(u, v, batch.tiles_k, tile, grain)
    shade.mul_(GRAIN[1] / 255).add_(GRAIN[0]).mul_(~batch.is_shadow_bp.flatten()[of_part_n, None])
    paint = batch.paint_bp6.flatten(0, 1)[of_part_n, :, None]
    colour = (paint[:, 3:] / 255 * level[:, None]).add_(paint[:, :3])
    if len(batch.photos_3k[0]):
        photo = batch.photo_bp.flatten()[of_part_n]
        some = (photo >= 0).nonzero()[:, 0]
        u, v = (torch.minimum(w := place[some].remainder_(2 * SIDE), 2 * SIDE - 1 - w) for place in (u, v))
        u, v = u.clamp_(0, SIDE - 1), v.clamp_(0, SIDE - 1)
        for channel, texels_k in enumerate(batch.photos_3k):
            colour[some, channel] = _read(u, v, texels_k, photo[some, None])[0].mul_(1 / 255)
    return colour.mul_(shade[:, None])


def _read(u_nx: Tensor, v_nx: Tensor, texels_k: Tensor, *tiles_n1: Tensor) -> list[Tensor]:
    """Look up packed texels between four at a time, ``float32[N, X]`` from 0 to 255 for each of the tiles."""
    left, top = u_nx.floor(), v_nx.floor()
    right_weight, lower_weight = u_nx - left, v_nx - top
    place = (left.int() & (SIDE - 1)) + (top.int() & (SIDE - 1)) * SIDE
    values = []
    for tile_n1 in tiles_n1:
        index = place + tile_n1.int()
        four = texels_k.index_select(0, index.flatten()).view(torch.uint8).float().view(*place.shape, 4)
        upper, lower = (four[..., row].lerp(four[..., row + 1], right_weight) for row in (0, 2))
        values.append(upper.lerp_(lower, lower_weight))
    return values


def _motion(batch: SceneBatch, part_bthw: Tensor) -> tuple[Tensor, Tensor]:
    """Flow ``float32[B, T - 1, 2, H, W]`` in pixels and occlusion ``bool[B, T - 1, H, W]``."""
    (clips, frames, height, width), device = part_bthw.shape, part_bthw.device
    steps = clips * (frames - 1)
    flow = torch.empty(steps, 2, height, width, device=device)
    occluded = torch.empty(steps, height, width, dtype=torch.bool, device=device)
    x = torch.arange(width, device=device) + 0.5
    y = (torch.arange(height, device=device) + 0.5)[:, None]
    parts_fhw = part_bthw.flatten(0, 1)
    step_rp23 = batch.step_btp23.flatten(0, 1)
    to_pixels = step_rp23.new_tensor([1, 1, height])
    columns_6r = (step_rp23 * to_pixels).flatten(0, 1).flatten(1).T.contiguous()
    gone_r = batch.gone_btp.flatten()
    at_once = _frames_at_once(device, (height, width))
    for first in range(0, steps, at_once):
        some = torch.arange(first, min(first + at_once, steps), device=device)
        before = some + some // (frames - 1)
        part = parts_fhw[before]
        row = (part + (some * step_rp23.shape[1]).int()[:, None, None]).flatten()
        a, b, c, d, e, f = (column.index_select(0, row).view(part.shape) for column in columns_6r)
        across, down = (a * x).add_(b * y).add_(c), (d * x).add_(e * y).add_(f)
        flow[first : first + at_once, 0], flow[first : first + at_once, 1] = across, down
        to_x, to_y = across.add_(x), down.add_(y)
        outside = (to_x < 0) | (to_x >= width) | (to_y < 0) | (to_y >= height)
        outside |= gone_r.index_select(0, row).view_as(part)
        covered = _is_covered(batch, parts_fhw, before + 1, part, to_x, to_y)
        occluded[first : first + at_once] = covered | outside
    return flow.view(clips, frames - 1, 2, height, width), occluded.view(clips, frames - 1, height, width)


def _is_covered(
    batch: SceneBatch, parts_fhw: Tensor, there_f: Tensor, part_fhw: Tensor, x_fhw: Tensor, y_fhw: Tensor
) -> Tensor:
    """Whether nearer parts are at places of other frames, ``bool[F, H, W]``.

    Where not all four pixels around a place agree, their parts are measured at the place itself.
    """
    (height, width), parts = parts_fhw.shape[1:], batch.shown_btp.shape[2]
    next_fhw = parts_fhw[there_f]
    left, top = (x_fhw - 0.5).clamp_(0, width - 1), (y_fhw - 0.5).clamp_(0, height - 1)
    start = torch.arange(0, next_fhw.numel(), height * width, device=next_fhw.device).int()[:, None, None]
    index = (start + top.int() * width + left.int()).flatten()
    highest, lowest = (
        _of_four(next_fhw, choose).flatten().index_select(0, index).view_as(part_fhw)
        for choose in (torch.maximum, torch.minimum)
    )
    covered = lowest > part_fhw
    unsure = (highest > part_fhw) & ~covered
    frame_n, line_n, column_n = unsure.nonzero().unbind(1)
    x_n, y_n = x_fhw[frame_n, line_n, column_n], y_fhw[frame_n, line_n, column_n]
    at_place_n = next_fhw[frame_n, y_n.clamp(0, height - 1).long(), x_n.clamp(0, width - 1).long()]
    candidate_2n = torch.stack([highest[frame_n, line_n, column_n], at_place_n])
    forms = batch.forms_btp83.flatten(0, 2)[there_f[frame_n] * parts + candidate_2n]
    forms = _seen_from(forms.flatten(0, 1), torch.stack([x_n, y_n], 1).repeat(2, 1) / height)
    of_part = (there_f[frame_n] // batch.shown_btp.shape[1] * parts + candidate_2n).flatten()
    cover = _coverage(batch, forms, of_part, forms.new_tensor([[0.0], [0.0], [1.0]]), height).view(2, -1)
    nearer = candidate_2n > part_fhw[frame_n, line_n, column_n]
    covered[frame_n, line_n, column_n] = ((cover >= _HALF) & nearer).any(0)
    return covered


def _of_four(values_fhw: Tensor, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """What is chosen of a pixel and those to the right, below and below right."""
    pair = choose(values_fhw, torch.cat([values_fhw[..., 1:], values_fhw[..., -1:]], -1))
    return choose(pair, torch.cat([pair[..., 1:, :], pair[..., -1:, :]], -2))
