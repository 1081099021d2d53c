"""Training clips from a folder of pictures with masks: cut-outs that move and bend over other pictures.

A point x of the picture shows the point u of a cut-out, both a function of time:

    w = M x + m              affine: where the cut-out is, how large, how turned
    u = w + d(w)             thin-plate spline: how it is bent

Its flow is known: with the maps of the next frame, w' solves w' + d'(w') = u, and x' = M'⁻¹ (w' - m'). It is seen there
if no nearer cut-out is.

Thin-plate splines: F. L. Bookstein, Principal Warps (PAMI 1989). The control points are the same for all, so that the
spline is one matrix from what they move by to what a lattice of points moves by; between these d is bilinear.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from maskstream.types import InputError

from .batched import Clips

Picture: TypeAlias = NDArray[np.uint8]

_SIDE = 160
"""Pixels along the side of a stored cut-out."""
_GROUND = 256
"""Pixels along the side of a stored background."""
_CONTROL = 4
"""Control points along a side."""
_LATTICE = 33
"""Points of the lattice along a side, from -_REACH to _REACH; beyond, d is that of the border."""
_REACH = 1.25
_BEND = 0.12
"""Farthest that a control point moves, in halves of the cut-out's side; twice that could fold it."""
_ROUNDS = 12
"""Fixed-point steps to invert a bend; each leaves less than half of the error."""
_FRAMES_AT_ONCE = {"cpu": 8, "cuda": 256}


@dataclass(frozen=True, slots=True, eq=False)
class Cutouts:
    """What clips are made of.

    Attributes:
        objects_n4ss: ``uint8[N, 4, S, S]``, RGB and mask (0 or 255), in the middle of a square.
        grounds_m3gg: ``uint8[M, 3, G, G]``, backgrounds; they are mirrored where they end.
    """

    objects_n4ss: Tensor
    grounds_m3gg: Tensor

    def to(self, device: torch.device | str) -> Cutouts:
        """The same on another device."""
        return Cutouts(self.objects_n4ss.to(device), self.grounds_m3gg.to(device))


def read_cutouts(
    images: str | Path,
    masks: str | Path | None = None,
    *,
    textures: Picture | None = None,
    most: int = 6000,
) -> Cutouts:
    """Read pictures and the masks of their objects.

    Args:
        images: a folder of pictures.
        masks: a folder of masks that have the names of their pictures, whatever the endings; by default the same
            folder, where the picture ``dog.jpg`` has the mask ``dog.png``. What is brighter than half is the object.
        textures: tiles of a texture pack, ``uint8[M, 64, 64, 3]``, for backgrounds instead of the pictures, which
            show objects that no label tells of.
        most: how many pairs to keep in memory, 0.3 MB each; of more, every n-th.

    Raises:
        InputError: a folder does not exist, holds no pair, or a mask has another size than its picture.
        VideoError: a file cannot be read.
    """
    from maskstream.video.images import read_image  # brings the video reader along, which drawing does without

    pairs = pairs_in(Path(images), Path(masks) if masks is not None else None)
    objects: list[Picture] = []
    grounds: list[Picture] = []
    for picture, mask in pairs[:: -(-len(pairs) // most)]:
        image, inside = read_image(picture), read_image(mask).max(axis=2)
        if image.shape[:2] != inside.shape:
            (height, width), (mask_height, mask_width) = image.shape[:2], inside.shape
            raise InputError(f"{mask} is {mask_height}×{mask_width} but {picture.name} is {height}×{width}: resize it")
        inside = (inside > inside.max() / 2).astype(np.uint8) * np.uint8(255)
        if inside.any():
            objects.append(_cut_out(image, inside))
        grounds.append(_resized(image, (_GROUND, _GROUND)))
    if not objects:
        raise InputError(f"all masks of {masks or images} are empty: what is brighter than half is the object")
    if textures is not None:
        grounds = [_resized(tile, (_GROUND, _GROUND)) for tile in textures]
    return Cutouts(_channels_first(objects), _channels_first(grounds))


def draw_cutouts(
    cutouts: Cutouts,
    clips: int,
    size_hw: tuple[int, int],
    *,
    frames: int,
    seed: int,
    objects: tuple[int, int] = (1, 4),
    step: int = 1,
    times: Sequence[int] | None = None,
    still: float = 0.0,
    motion: bool = True,
) -> Clips:
    """Draw clips, on the device of the cut-outs. The same seed gives the same clips on one machine.

    Args:
        cutouts: what to paste.
        clips: how many, B.
        size_hw: height and width in pixels.
        frames: of a clip, T.
        seed: which clips.
        objects: fewest and most in a clip.
        step: only every so many-th frame is drawn, so that more moves.
        times: the frames of these that are drawn, in this order; flow is from each to the next of them.
        still: how many of the objects stand still in the world; the nearer they are to the camera, the more they move
            in the picture. They are void, as the background.
        motion: whether flow and occlusion are wanted; otherwise they are empty, and a third of the time is saved.

    Returns:
        The clips. Objects are things of category 1, with ids from 1, far to near; the background is void.

    Raises:
        InputError: an option is out of range.
    """
    if min(clips, frames, step) < 1 or not 1 <= objects[0] <= objects[1]:
        raise InputError(
            f"{clips} clips of {frames} frames, every {step}th, with {objects[0]} to {objects[1]} objects: give at "
            "least 1 of each"
        )
    scene = _Scene.random(cutouts, clips, size_hw, step * (frames - 1) + 1, objects, seed, still)
    scene = scene.at(range(0, step * (frames - 1) + 1, step))
    if times is not None:
        scene = scene.at(times)
    device = cutouts.objects_n4ss.device
    at_once = max(1, _FRAMES_AT_ONCE.get(device.type, _FRAMES_AT_ONCE["cuda"]) // frames)
    drawn = [
        _draw(cutouts, scene, slice(first, first + at_once), size_hw, motion=motion)
        for first in range(0, clips, at_once)
    ]
    pictures, entity, flow, occluded = (torch.cat(pieces) for pieces in zip(*drawn, strict=True))
    moves_bk = scene.exists_bk & ~scene.still_bk
    category = torch.cat([torch.zeros_like(scene.count_b[:, None]), moves_bk.long()], 1)
    return Clips(pictures, entity, flow, occluded, category, category > 0)


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """What chance decided.

    Attributes:
        ground_b: ``int64[B]``, row of the backgrounds.
        ground_bt23: ``float32[B, T, 2, 3]``, picture to background.
        object_bk: ``int64[B, K]``, rows of the objects, far to near.
        count_b: ``int64[B]``, how many objects there are.
        object_bkt23: ``float32[B, K, T, 2, 3]``, picture to object.
        bend_bkt2ll: ``float32[B, K, T, 2, L, L]``, d on the lattice, x and y.
        still_bk: ``bool[B, K]``, whether objects stand still in the world.
    """

    ground_b: Tensor
    ground_bt23: Tensor
    object_bk: Tensor
    count_b: Tensor
    object_bkt23: Tensor
    bend_bkt2ll: Tensor
    still_bk: Tensor

    @property
    def exists_bk(self) -> Tensor:
        """``bool[B, K]``."""
        return torch.arange(self.object_bk.shape[1], device=self.count_b.device) < self.count_b[:, None]

    def at(self, times: Sequence[int]) -> _Scene:
        """Only some frames, in this order."""
        chosen = list(times)
        return replace(
            self,
            ground_bt23=self.ground_bt23[:, chosen],
            object_bkt23=self.object_bkt23[:, :, chosen],
            bend_bkt2ll=self.bend_bkt2ll[:, :, chosen],
        )

    @classmethod
    def random(
        cls,
        cutouts: Cutouts,
        clips: int,
        size_hw: tuple[int, int],
        frames: int,
        objects: tuple[int, int],
        seed: int,
        still: float,
    ) -> _Scene:
        """Let chance decide; on the CPU, so that every device gets the same."""
        generator = torch.Generator().manual_seed(seed)
        most, aspect = objects[1], size_hw[1] / size_hw[0]

        def between(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(*shape, generator=generator)

        def below(stop: int, *shape: int) -> Tensor:
            return torch.randint(stop, shape, generator=generator)

        time = torch.linspace(0, 1, frames) * min(1.0, (frames - 1) / 24)
        many = (clips, most, 1)
        place = between(0, 1, clips, most, 2, 1) * torch.tensor([aspect, 1.0])[:, None]
        middle = place + between(-0.5, 0.5, clips, most, 2, 1) * time
        middle = middle + 0.06 * torch.sin(2 * math.pi * (between(0.3, 1.5, clips, most, 2, 1) * time + place))
        radius = between(0.12, 0.4, *many) * (between(-0.6, 0.6, *many) * time).exp()
        slant = between(-0.25, 0.25, *many) * torch.sin(2 * math.pi * time)
        turn = between(-0.4, 0.4, *many) + between(-1.2, 1.2, *many) * time
        object_bkt23 = _into(middle, radius, radius * (1 + slant), turn)
        middle = torch.tensor([aspect / 2, 0.5])[:, None] + between(-0.2, 0.2, clips, 2, 1) * time
        radius = between(0.7, 1.2, clips, 1) * max(aspect, 1) * (between(-0.2, 0.2, clips, 1) * time).exp()
        ground_bt23 = _into(middle, radius, radius, between(-0.1, 0.1, clips, 1) * time)
        phase = between(0.4, 1.6, *many) * time + between(0, 1, *many)
        swing = torch.sin(2 * math.pi * phase)[..., None, None]
        shifts = _BEND * between(-1, 1, clips, most, 1, 2, _CONTROL**2) * swing
        bend_bkt2ll = (shifts @ _thin_plate().T).view(clips, most, frames, 2, _LATTICE, _LATTICE)
        device = cutouts.objects_n4ss.device
        scene = cls(
            below(len(cutouts.grounds_m3gg), clips).to(device),
            ground_bt23.to(device),
            below(len(cutouts.objects_n4ss), clips, most).to(device),
            (objects[0] + below(most - objects[0] + 1, clips)).to(device),
            object_bkt23.to(device),
            bend_bkt2ll.to(device),
            torch.zeros(clips, most, dtype=torch.bool, device=device),
        )
        if not still:
            return scene
        still_bk, nearer_bk = between(0, 1, clips, most) < still, between(-0.3, 1.0, clips, most)
        return scene.standing(still_bk.to(device), nearer_bk.to(device))

    def standing(self, still_bk: Tensor, nearer_bk: Tensor) -> _Scene:
        """With objects that stay where they are on the first frame, as on a plane of their own before the background.

        Args:
            still_bk: ``bool[B, K]``, which ones.
            nearer_bk: ``float32[B, K]``, by how much more than the background each moves in the picture.
        """
        first_bk23 = self.object_bkt23[:, :, 0]
        corner_k2 = first_bk23.new_zeros(1, 1, 1, 2)
        middle_bk2 = _moved_back(first_bk23, corner_k2.expand(*first_bk23.shape[:2], 1, 2))[:, :, 0]
        # the first picture, in the picture of frame t: first through the background's map, and back
        there_bkp2 = _moved(self.ground_bt23[:, :1], middle_bk2[:, None])[:, 0]
        seen_btk2 = _moved_back(self.ground_bt23, there_bkp2[:, None].expand(-1, self.ground_bt23.shape[1], -1, -1))
        shift_bkt2 = (1 + nearer_bk[..., None, None]) * (seen_btk2.transpose(1, 2) - middle_bk2[:, :, None])
        # from frame t to the first: undo the shift, and the background's growth and turn around the object's middle
        grown_bt22 = torch.linalg.solve(self.ground_bt23[:, :1, :, :2], self.ground_bt23[..., :2])
        linear_bkt22 = first_bk23[:, :, None, :, :2] @ grown_bt22[:, None]
        middle_bkt2 = middle_bk2[:, :, None] + shift_bkt2
        move_bkt2 = -(linear_bkt22 @ middle_bkt2[..., None])
        stays_bkt23 = torch.cat([linear_bkt22, move_bkt2], dim=-1)
        keep = still_bk[..., None, None, None]
        return replace(
            self,
            object_bkt23=torch.where(keep, stays_bkt23, self.object_bkt23),
            bend_bkt2ll=torch.where(keep[..., None], self.bend_bkt2ll[:, :, :1], self.bend_bkt2ll),
            still_bk=still_bk,
        )


def _into(middle_2t: Tensor, across_t: Tensor, down_t: Tensor, turn_t: Tensor) -> Tensor:
    """Affine maps of the picture that bring an ellipse's box to -1 … 1: ``float32[..., T, 2, 3]``."""
    x, y = middle_2t.unbind(-2)
    cosine, sine = turn_t.cos(), turn_t.sin()
    a, b, c, d = cosine / across_t, sine / across_t, -sine / down_t, cosine / down_t
    rows = [torch.stack([a, b, -(a * x + b * y)], -1), torch.stack([c, d, -(c * x + d * y)], -1)]
    return torch.stack(rows, -2)


def _draw(
    cutouts: Cutouts, scene: _Scene, some: slice, size_hw: tuple[int, int], *, motion: bool
) -> tuple[Tensor, ...]:
    """Frames, labels, flow and occlusion of some clips."""
    (height, width), device = size_hw, cutouts.objects_n4ss.device
    x = (torch.arange(width, device=device) + 0.5).repeat(height) / height
    y = (torch.arange(height, device=device) + 0.5).repeat_interleave(width) / height
    pixels_p2 = torch.stack([x, y], 1)
    ground_bt23 = scene.ground_bt23[some]
    clips, frames = ground_bt23.shape[:2]

    at_bt = _moved(ground_bt23, pixels_p2)
    picture = _sample(cutouts.grounds_m3gg[scene.ground_b[some]], at_bt, "reflection")
    label = torch.zeros(clips, frames, height * width, dtype=torch.int64, device=device)
    steps = frames - 1 if motion else 0
    target = _moved_back(ground_bt23[:, 1 : 1 + steps], at_bt[:, :steps])
    layers = list(_layers(cutouts, scene, some))
    for number, layer in enumerate(layers, start=1):
        at_bt = layer.into(pixels_p2)
        painted = _sample(layer.image_b4ss, at_bt, "zeros")
        cover = painted[:, :, 3:] * layer.exists_b[:, None, None, None]
        picture = torch.lerp(picture, painted[:, :, :3], cover)
        inside = cover[:, :, 0] >= 0.5
        label = torch.where(inside, number, label)
        if steps:
            target = torch.where(inside[:, :-1, :, None], layer.out_of(at_bt[:, :-1]), target)
    size = pixels_p2.new_tensor([width / height, 1.0])
    occluded = ((target < 0) | (target >= size)).any(-1)
    for number, layer in enumerate(layers, start=1) if steps else ():
        cover = _sample(layer.image_b4ss[:, 3:], layer.into(target, after=1), "zeros")[:, :, 0]
        occluded |= (cover * layer.exists_b[:, None, None] >= 0.5) & (label[:, :-1] < number)
    flow = (target - pixels_p2).transpose(2, 3) * height
    pictures = (picture * 255).round_().clamp_(0, 255).to(torch.uint8)
    return (
        pictures.view(clips, frames, 3, *size_hw),
        label.view(clips, frames, *size_hw),
        flow.reshape(clips, steps, 2, *size_hw),
        occluded.view(clips, steps, *size_hw),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """One object in each of some clips.

    Attributes:
        image_b4ss: ``uint8[B, 4, S, S]``.
        exists_b: ``bool[B]``.
        place_bt23: ``float32[B, T, 2, 3]``, picture to object.
        bend_bt2ll: ``float32[B, T, 2, L, L]``, d on the lattice.
    """

    image_b4ss: Tensor
    exists_b: Tensor
    place_bt23: Tensor
    bend_bt2ll: Tensor

    def into(self, points: Tensor, *, after: int = 0) -> Tensor:
        """Points of the picture, ``[P, 2]`` or ``[B, T - after, P, 2]``, in the object, from frame ``after`` on."""
        flat = _moved(self.place_bt23[:, after:], points)
        return flat + _bend(self.bend_bt2ll[:, after:], flat)

    def out_of(self, points_btp2: Tensor) -> Tensor:
        """Points of the object where the picture has them one frame later, ``[B, T - 1, P, 2]``."""
        bend, flat = self.bend_bt2ll[:, 1:], points_btp2
        for _ in range(_ROUNDS):
            flat = points_btp2 - _bend(bend, flat)
        return _moved_back(self.place_bt23[:, 1:], flat)


def _layers(cutouts: Cutouts, scene: _Scene, some: slice) -> Iterator[_Layer]:
    for number in range(scene.object_bk.shape[1]):
        yield _Layer(
            cutouts.objects_n4ss[scene.object_bk[some, number]],
            scene.exists_bk[some, number],
            scene.object_bkt23[some, number],
            scene.bend_bkt2ll[some, number],
        )


def _moved(map_bt23: Tensor, points: Tensor) -> Tensor:
    moved: Tensor = points @ map_bt23[..., :2].mT + map_bt23[..., None, :, 2]
    return moved


def _moved_back(map_bt23: Tensor, points: Tensor) -> Tensor:
    moved: Tensor = (points - map_bt23[..., None, :, 2]) @ torch.linalg.inv(map_bt23[..., :2]).mT
    return moved


def _sample(images_bchw: Tensor, at_btp2: Tensor, beyond: str) -> Tensor:
    """Bilinear, ``float32[B, T, C, P]`` in [0, 1]; -1 … 1 are the outer sides of the images."""
    clips, frames, points = at_btp2.shape[:3]
    at = at_btp2.reshape(clips, frames * points, 1, 2)
    found = F.grid_sample(images_bchw.float(), at, padding_mode=beyond, align_corners=False)
    return found.view(clips, -1, frames, points).transpose(1, 2) / 255


def _bend(lattice_bt2ll: Tensor, at_btp2: Tensor) -> Tensor:
    """d at these points, ``[B, T, P, 2]``."""
    at = at_btp2.flatten(0, 1)[:, :, None] / _REACH
    found = F.grid_sample(lattice_bt2ll.flatten(0, 1), at, padding_mode="border", align_corners=True)
    return found[..., 0].transpose(1, 2).view_as(at_btp2)


@cache
def _thin_plate() -> Tensor:
    """From what the control points move by to what those of the lattice do, ``float32[L², C]``; rows from the top."""
    side, fine = torch.linspace(-1, 1, _CONTROL).double(), torch.linspace(-_REACH, _REACH, _LATTICE).double()
    control, lattice = torch.cartesian_prod(side, side).flip(1), torch.cartesian_prod(fine, fine).flip(1)
    count = len(control)
    system = torch.zeros(count + 3, count + 3, dtype=torch.float64)
    system[:count] = _terms(control, control)
    system[count:, :count] = system[:count, count:].T
    moves: Tensor = _terms(lattice, control) @ torch.linalg.inv(system)[:, :count]
    return moves.float()


def _terms(points_p2: Tensor, control_c2: Tensor) -> Tensor:
    """What the weights of a spline are multiplied by, ``[P, C + 3]``: r² log r² for each control point, 1, x, y."""
    squared = torch.cdist(points_p2, control_c2).square().clamp(min=1e-12)
    return torch.cat([squared * squared.log(), torch.ones_like(points_p2[:, :1]), points_p2], 1)


def pairs_in(images: Path, masks: Path | None = None) -> list[tuple[Path, Path]]:
    """Pictures and masks, as `read_cutouts` takes them.

    Raises:
        InputError: a folder does not exist, or holds no pair.
    """
    from maskstream.video.images import is_image, natural_key

    folders = [images] if masks is None else [images, masks]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder: name a folder of pictures, and one of masks")
    pictures = sorted((path for path in images.iterdir() if is_image(path)), key=natural_key)
    if masks is None:
        of_name = {path.stem: path for path in pictures if path.suffix.lower() == ".png"}
        pictures = [path for path in pictures if path.suffix.lower() != ".png"]
    else:
        of_name = {path.stem: path for path in masks.iterdir() if is_image(path)}
    pairs = [(path, of_name[path.stem]) for path in pictures if path.stem in of_name]
    if not pairs:
        where = f"{images} and {masks}" if masks else str(images)
        raise InputError(f"no picture of {where} has a mask: a mask has the name of its picture, dog.jpg and dog.png")
    return pairs


def _cut_out(image: Picture, inside: Picture) -> Picture:
    """RGB and mask of an object in the middle of a square, ``uint8[S, S, 4]``."""
    x, y, width, height = cv2.boundingRect(inside)
    picture = np.dstack([image, inside])[y : y + height, x : x + width]
    # Some room around it: the outline is soft, and outside of the square is nothing.
    scale = (_SIDE - 4) / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = _resized(picture, size)
    top, left = (_SIDE - size[1]) // 2, (_SIDE - size[0]) // 2
    square = cv2.copyMakeBorder(picture, top, _SIDE - size[1] - top, left, _SIDE - size[0] - left, cv2.BORDER_REPLICATE)
    outside = np.ones((_SIDE, _SIDE), np.bool_)
    outside[top : top + size[1], left : left + size[0]] = False
    square[outside, 3] = 0
    return np.asarray(square, dtype=np.uint8)


def _resized(picture: Picture, size_wh: tuple[int, int]) -> Picture:
    way = cv2.INTER_AREA if size_wh[0] < picture.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size_wh, interpolation=way), dtype=np.uint8)


def _channels_first(images: Sequence[Picture]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)))
