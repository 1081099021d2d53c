"""The learned `Propagator`: DEVA's network and its memory.

DEVA (Cheng et al., "Tracking Anything with Decoupled Video Segmentation", ICCV 2023), appendix A; XMem (Cheng and
Schwing, ECCV 2022), §3.

    frame ─► encode ─┬─► read from memory ─► decode ─► probabilities [1 + N, h, w]
                     │        ▲               ▲ │                          │
                     │        │               │ ▼                          ▼
                     │        │            sensory memory         masks ◄─ write, if someone knows better
                     │        │                 ▲                   │
                     │        │                 └── deep update ◄─┐ │
                     └────────┴─────────────── values ◄───────── encode masks, every r-th frame and after a write

A frame is memorised late, when the next one is read: until then `write` may change its masks, and the last frame of a
video is never memorised in vain.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from maskstream.types import Frame, InputError, StateDict

from . import windows
from .attention import attend, read_out
from .guide import GuideState, begin, given_to, guide_bytes, look
from .memory import SIMILARITY_BYTES, Memory, forget, from_plain, memorise, read, to_plain
from .memory_policy import FLOAT32, MemoryPolicy
from .network import PropagationNetwork, aggregate
from .network_features import STRIDE, NetworkFeatures, padded, prepare
from .references import FlowFeatures

SLACK = 1e-3
"""Masks may lie outside of [0, 1] by so much, as they do after resizing."""

Precision: TypeAlias = Literal["auto", "fp32", "bf16", "fp16"]
Mode: TypeAlias = Literal["fast", "exact"]


@dataclass(frozen=True, slots=True, eq=False)
class NetworkState:
    """What is carried from frame to frame. H and W are padded; h and w are H / 16 and W / 16.

    Attributes:
        object_ids: N ids, in the order of the channels. Without any, the rest is empty.
        size_hw: of the frames at internal resolution.
        memory: keys and values; of the frame that is pending, not yet.
        sensory_nchw: ``float32[N, Ch, h, w]``.
        last_masks_nhw: ``float32[N, H, W]``, soft masks on the last frame.
        since_memory: frames read after the last one that is, or will be, in memory.
        pending: the last frame if it is to be memorised, without what only decoding needs.
        former_nchw: sensory memory before the last frame, for networks with `NetworkConfig.one_update`.
        guide: what flow and colour remember, for networks with `NetworkConfig.guide_dim`.
    """

    object_ids: tuple[int, ...] = ()
    size_hw: tuple[int, int] = (0, 0)
    memory: Memory = field(default=Memory(), repr=False)
    sensory_nchw: Tensor = field(default_factory=lambda: torch.empty(0), repr=False)
    last_masks_nhw: Tensor = field(default_factory=lambda: torch.empty(0), repr=False)
    since_memory: int = 0
    pending: NetworkFeatures | None = field(default=None, repr=False)
    former_nchw: Tensor | None = field(default=None, repr=False)
    guide: GuideState | None = field(default=None, repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return (
            self.memory.nbytes
            + self.sensory_nchw.nbytes
            + self.last_masks_nhw.nbytes
            + (0 if self.pending is None else self.pending.nbytes)
            + (0 if self.former_nchw is None else self.former_nchw.nbytes)
            + (0 if self.guide is None else self.guide.nbytes)
        )


class NetworkPropagator:
    """A `Propagator` that follows objects with a trained network.

    Args:
        network: on the device to use.
        policy: what to remember.
        mode: "exact" as published; "fast" looks at each object only around where it was and where memory says it is
            (`windows`), which changes masks a little.
        size: short side of the internal resolution in pixels, 480 for published results; None: that of the frames.
        precision: of the network and of what it remembers; what needs float32 has it in any case. "auto" is bf16 where
            the device has units for it, and fp32 elsewhere. A network of another precision is copied.
        chunk_bytes: about so much memory for intermediate results that grow with the number of objects; more objects
            than fit are taken in turns.
        mirror: look at everything mirrored; what comes out is mirrored back. For averaging over both.
        antialias: when frames are reduced.
        compiled: compile the network (`torch.compile`), which takes minutes and is worth it on a GPU and long videos.

    Raises:
        InputError: an option is out of range, or the network has weights that are NaN or infinite.
    """

    def __init__(
        self,
        network: PropagationNetwork,
        *,
        mode: Mode = "fast",
        policy: MemoryPolicy | None = None,
        size: int | None = 480,
        precision: Precision = "fp32",
        chunk_bytes: int = 1 << 30,
        mirror: bool = False,
        antialias: bool = True,
        compiled: bool = False,
    ) -> None:
        if mode not in get_args(Mode):
            raise InputError(f"the mode of a propagator is one of {', '.join(get_args(Mode))}, not {mode!r}")
        if size is not None and size < STRIDE:
            raise InputError(f"the size of a propagator must be at least {STRIDE} pixels, not {size}")
        self.mode = mode
        self.policy = policy or MemoryPolicy()
        self.size = size
        self.chunk_bytes = chunk_bytes
        self.mirror = mirror
        self.antialias = antialias
        self.device = next(network.parameters()).device
        dtype = _dtype(precision, self.device)
        self.network = (network if network.dtype == dtype else copy.deepcopy(network).to(dtype)).eval()
        if compiled:
            self.network = _compiled(self.network)
        if spoilt := [name for name, weight in self.network.state_dict().items() if not weight.isfinite().all()]:
            raise InputError(
                f"{len(spoilt)} weights of the network have values that are NaN or infinite (first {spoilt[0]}): "
                f"training diverged, or they do not fit into {precision}"
            )

    def start(self) -> NetworkState:
        """A state that follows no object."""
        return NetworkState()

    def object_ids(self, state: NetworkState) -> tuple[int, ...]:
        """The objects a state follows, in the order of the channels that `read` returns."""
        return state.object_ids

    def state_bytes(self, size_hw: tuple[int, int], *, objects: int, buckets: int = 1) -> int:
        """Most bytes that a state comes to, however long the video: the budget of its memory, and the rest.

        Args:
            size_hw: of the frames.
            objects: that are followed.
            buckets: in how many goes they came.
        """
        config, itemsize = self.network.config, self.network.dtype.itemsize
        height, width = self._internal(size_hw)
        grid_hw = (-(-height // STRIDE), -(-width // STRIDE))
        places = grid_hw[0] * grid_hw[1]
        memory = self.policy.bytes(
            objects=objects,
            grid_hw=grid_hw,
            buckets=buckets,
            key_dim=config.key_dim,
            value_dim=self._value_dim,
            itemsize=itemsize,
        )
        sensory = objects * config.sensory_dim * FLOAT32 * (2 if config.one_update else 1)
        masks, image = objects * STRIDE**2 * FLOAT32, 3 * STRIDE**2 * FLOAT32
        pending = image + (config.image_dims[0] + 2 * config.key_dim) * itemsize + FLOAT32
        guide = guide_bytes((height, width), objects=objects) if config.guide_dim else 0
        return memory + places * (sensory + masks + pending) + guide

    @torch.inference_mode()
    def encode(self, frame: Frame) -> NetworkFeatures:
        """Features and keys of a frame at internal resolution: short side `size`, long side rounded down."""
        size_hw = self._internal(frame.size_hw)
        pixels = torch.from_numpy(np.require(frame.image, requirements=("C", "W")))
        image = prepare(pixels.to(self.device), size_hw, antialias=self.antialias)
        image = padded(self._turned(image))
        flow = self._flow_features(frame, size_hw) if self.network.config.guide_dim else None
        return NetworkFeatures(frame.index, size_hw, image, self.network.encode_image(image), flow)

    def _flow_features(self, frame: Frame, size_hw: tuple[int, int]) -> FlowFeatures:
        features = FlowFeatures.of(frame.image, size_hw)
        return FlowFeatures(features.lab_hwc.flip(1).contiguous()) if self.mirror else features

    def size_hw(self, features: NetworkFeatures) -> tuple[int, int]:
        """The internal resolution of a frame, without padding."""
        return features.size_hw

    @torch.inference_mode()
    def read(
        self, state: NetworkState, features: NetworkFeatures, *, advance: bool = True
    ) -> tuple[NetworkState, Tensor]:
        """Find the objects on a new frame.

        Returns:
            The state and ``float32[1 + N, h, w]`` probabilities, background first, summing to one. The state holds on
            to them: do not change them in place.

        Raises:
            InputError: the frame is of another size than the last.
        """
        if not state.object_ids:
            return state, torch.ones((1, *features.size_hw), device=self.device)
        _check_size(features, state)
        ready = self._memorised(state)
        memory, readout_nqc = read(ready.memory, features.keys, top_k=self.policy.top_k, budget=self.chunk_bytes)
        guide, seen_nchw = self._guided(state.guide, features, ready.last_masks_nhw)
        since = state.since_memory + 1
        due, one_update = since >= self.policy.every, self.network.config.one_update
        sensory_nchw, probabilities = self._decode(
            features,
            readout_nqc,
            ready.sensory_nchw,
            ready.last_masks_nhw,
            update_sensory=advance and not (due and one_update),
            guide_nchw=seen_nchw,
        )
        if advance:
            state = NetworkState(
                state.object_ids,
                state.size_hw,
                memory,
                sensory_nchw,
                probabilities[1:],
                since_memory=0 if due else since,
                pending=features.without_skips() if due else None,
                former_nchw=ready.sensory_nchw if one_update and not due else None,
                guide=guide,
            )
        return state, self._outside(probabilities, features)

    @torch.inference_mode()
    def write(
        self, state: NetworkState, features: NetworkFeatures, masks_nhw: Tensor, object_ids: Sequence[int]
    ) -> NetworkState:
        """Memorise masks of the frame that was read last (or of the first one).

        A frame that is written to twice is memorised once, as it is in the end.

        Raises:
            InputError: the masks are not one for each id, not of the size of the frame or not in [0, 1]; an id is there
                twice; or the frame is of another size than the last.
        """
        _check_masks(masks_nhw, object_ids, features.size_hw)
        if not len(object_ids):
            return state
        if state.object_ids:
            _check_size(features, state)
        if state.pending is not None and state.pending.frame_index != features.frame_index:
            state = self._memorised(state)
        known = state.object_ids
        ids = (*known, *(object_id for object_id in object_ids if object_id not in known))
        given_nhw = self._inside(masks_nhw)
        masks_nhw = given_nhw.new_zeros((len(ids), *features.padded_hw))
        sensory_nchw = self._no_sensory(len(ids), features)
        if known:
            masks_nhw[: len(known)] = state.last_masks_nhw
            sensory_nchw[: len(known)] = state.sensory_nchw if state.former_nchw is None else state.former_nchw
        masks_nhw[:, given_nhw.amax(dim=0) > 0.5] = 0
        masks_nhw[[ids.index(object_id) for object_id in object_ids]] = given_nhw
        masks_nhw = torch.softmax(aggregate(masks_nhw[None]), dim=1)[0, 1:]
        guide = None
        if features.flow is not None:
            guide = given_to(state.guide, features.flow, features.crop(masks_nhw), known, ids, object_ids)
        return NetworkState(
            ids,
            features.size_hw,
            state.memory,
            sensory_nchw,
            masks_nhw,
            pending=features.without_skips(),
            guide=guide,
        )

    @torch.inference_mode()
    def corrected(self, state: NetworkState, masks_nhw: Tensor) -> NetworkState:
        """With other masks of the frame that was read last, of all objects.

        They take the place of what was found there: they are carried on, and memorised if the frame is. Unlike what is
        written, nobody vouches for them.

        Args:
            state: as `read` left it.
            masks_nhw: ``float32[N, h, w]``.

        Raises:
            InputError: the masks are not one for each object, or not of the size of the frame.
        """
        if not state.object_ids:
            return state
        _check_masks(masks_nhw, state.object_ids, state.size_hw)
        return replace(state, last_masks_nhw=self._inside(masks_nhw))

    @torch.inference_mode()
    def align(self, source: NetworkFeatures, masks_nhw: Tensor, target: NetworkFeatures) -> Tensor:
        """Carry masks from one frame to another, apart from any state (DEVA, §3.2.1).

        Returns:
            ``float32[1 + N, h, w]`` probabilities on the target frame, background first.

        Raises:
            InputError: the frames are of different sizes, or the masks do not fit.
        """
        if source.size_hw != target.size_hw:
            raise InputError(f"frames of {_by(source.size_hw)} and {_by(target.size_hw)} cannot be aligned")
        _check_masks(masks_nhw, range(len(masks_nhw)), source.size_hw)
        if not len(masks_nhw):
            return torch.ones((1, *target.size_hw), device=self.device)
        given_nhw = self._inside(masks_nhw)
        value_ntc, sensory_nchw = self._encode_masks(source, given_nhw, self._no_sensory(len(given_nhw), source))
        (attention,) = attend(target.keys, [[source.keys]], top_k=self.policy.top_k, budget=SIMILARITY_BYTES)
        readout_nqc = read_out(attention, [value_ntc], budget=self.chunk_bytes)
        start = None if source.flow is None else begin(source.flow, source.crop(given_nhw))
        _, seen_nchw = self._guided(start, target, given_nhw)
        _, probabilities = self._decode(
            target, readout_nqc, sensory_nchw, given_nhw, update_sensory=False, guide_nchw=seen_nchw
        )
        return self._outside(probabilities, target)

    @torch.inference_mode()
    def remove(self, state: NetworkState, object_ids: Sequence[int]) -> NetworkState:
        """Forget objects."""
        keep = [n for n, object_id in enumerate(state.object_ids) if object_id not in object_ids]
        if len(keep) == len(state.object_ids):
            return state
        if not keep:
            return self.start()
        return replace(
            state,
            object_ids=tuple(state.object_ids[n] for n in keep),
            memory=forget(state.memory, object_ids),
            sensory_nchw=state.sensory_nchw[keep],
            last_masks_nhw=state.last_masks_nhw[keep],
            former_nchw=None if state.former_nchw is None else state.former_nchw[keep],
            guide=None if state.guide is None else state.guide.only(keep),
        )

    def state_dict(self, state: NetworkState) -> StateDict:
        """The state as plain data."""
        return {
            "object_ids": list(state.object_ids),
            "size_hw": list(state.size_hw),
            "memory": to_plain(state.memory),
            "sensory": state.sensory_nchw,
            "last_masks": state.last_masks_nhw,
            "since_memory": state.since_memory,
            "pending": None if state.pending is None else state.pending.to_plain(),
            "former": state.former_nchw,
            "guide": None if state.guide is None else state.guide.to_plain(),
        }

    def load_state_dict(self, plain: StateDict) -> NetworkState:
        """The state again; undoes `state_dict`.

        Raises:
            InputError: it is of another network or mode.
        """
        height, width = plain["size_hw"]
        pending, former, guide = plain["pending"], plain["former"], plain["guide"]
        memory = from_plain(plain["memory"], self.device)
        for bucket in memory.buckets:
            channels = bucket.frames[0].value_ntc.shape[2]
            if channels != self._value_dim:
                raise InputError(
                    f"the state remembers {channels} channels, but this propagator {self._value_dim}: "
                    "it was saved by one with another network or mode"
                )
        return NetworkState(
            tuple(plain["object_ids"]),
            (height, width),
            memory,
            plain["sensory"].to(self.device),
            plain["last_masks"].to(self.device),
            plain["since_memory"],
            None if pending is None else NetworkFeatures.from_plain(pending, self.device),
            None if former is None else former.to(self.device),
            None if guide is None else GuideState.from_plain(guide),
        )

    def _memorised(self, state: NetworkState) -> NetworkState:
        """With the pending frame in memory: the values of all objects, and a deep update of sensory memory."""
        if state.pending is None:
            return state
        value_ntc, sensory_nchw = self._encode_masks(state.pending, state.last_masks_nhw, state.sensory_nchw)
        memory = memorise(state.memory, state.pending.keys, value_ntc, state.object_ids, self.policy)
        return replace(state, memory=memory, sensory_nchw=sensory_nchw, pending=None)

    @property
    def _value_dim(self) -> int:
        """Channels of what is remembered: in fast mode, presence is the last one."""
        return self.network.config.value_dim + (self.mode == "fast")

    def _encode_masks(
        self, features: NetworkFeatures, masks_nhw: Tensor, sensory_nchw: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What to remember of objects on a frame, ``[N, T, _value_dim]``, and sensory memory after the deep update."""
        around = windows.windows_around(masks_nhw) if self.mode == "fast" else None
        # In windows an empty mask is encoded too; networks that see the other objects need whole frames.
        if around and around.frames + 1 < len(masks_nhw) and not self.network.config.other_masks:
            value_nchw, sensory_nchw = windows.encode_masks(
                self.network,
                features.image_b3hw,
                features.image,
                masks_nhw,
                sensory_nchw,
                around,
                places=self._places_at_once,
            )
        else:
            value_bnchw, sensory_bnchw = self.network.encode_masks(
                features.image_b3hw,
                features.image,
                masks_nhw[None],
                sensory_nchw[None],
                deep_update=True,
                chunk=self._objects_at_once(features),
            )
            value_nchw, sensory_nchw = value_bnchw[0], sensory_bnchw[0]
        if around:
            presence_nhw = windows.presence(masks_nhw).to(value_nchw.dtype)
            value_nchw = torch.cat([value_nchw, presence_nhw[:, None]], dim=1)
        return value_nchw.flatten(2).transpose(1, 2), sensory_nchw

    def _decode(
        self,
        features: NetworkFeatures,
        readout_nqc: Tensor,
        sensory_nchw: Tensor,
        last_masks_nhw: Tensor,
        *,
        update_sensory: bool,
        guide_nchw: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Sensory memory after the frame, and probabilities ``float32[1 + N, H, W]``."""
        readout_nchw = readout_nqc.transpose(1, 2).view(*readout_nqc.shape[::2], *features.grid_hw)
        around = None
        if self.mode == "fast":
            readout_nchw, presence_nhw = readout_nchw[:, :-1], readout_nchw[:, -1]
            around = windows.windows_around(last_masks_nhw, presence_nhw)
        if around and around.frames < len(last_masks_nhw):
            logits_nhw, sensory_nchw = windows.decode(
                self.network,
                features.image,
                readout_nchw,
                sensory_nchw,
                last_masks_nhw,
                around,
                update_sensory=update_sensory,
                places=self._places_at_once,
                guide_nchw=guide_nchw,
            )
            return sensory_nchw, self.network.probabilities(logits_nhw[None])[0]
        logits_bnhw, sensory_bnchw = self.network.decode(
            features.image,
            readout_nchw[None],
            sensory_nchw[None],
            last_masks_nhw[None],
            update_sensory=update_sensory,
            guide_bnchw=None if guide_nchw is None else guide_nchw[None],
            chunk=self._objects_at_once(features),
        )
        return sensory_bnchw[0], self.network.probabilities(logits_bnhw)[0]

    def _guided(
        self, guide: GuideState | None, features: NetworkFeatures, last_masks_nhw: Tensor
    ) -> tuple[GuideState | None, Tensor | None]:
        """What the guide says of a frame, ``float32[N, CHANNELS, H, W]``; nothing for networks without one."""
        if guide is None or features.flow is None:
            return None, None
        guide, seen_nchw = look(guide, features.flow, features.crop(last_masks_nhw))
        return guide, padded(seen_nchw)

    @property
    def _places_at_once(self) -> int:
        """How many places the network may work on at a time. What it holds is most at stride 4."""
        _, middle, last = self.network.config.decoder_dims
        of_one = 4 * (middle + last) * (STRIDE // 4) ** 2 * self.network.dtype.itemsize
        return max(self.chunk_bytes // of_one, 1)

    def _objects_at_once(self, features: NetworkFeatures) -> int:
        """How many objects the network may take at a time on the whole frame."""
        return max(self._places_at_once // (features.grid_hw[0] * features.grid_hw[1]), 1)

    def _no_sensory(self, objects: int, features: NetworkFeatures) -> Tensor:
        """Sensory memory of objects that are new."""
        return torch.zeros((objects, self.network.config.sensory_dim, *features.grid_hw), device=self.device)

    def _internal(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        short = min(size_hw)
        size = self.size or short
        return size_hw[0] * size // short, size_hw[1] * size // short

    def _turned(self, picture: Tensor) -> Tensor:
        return picture.flip(-1) if self.mirror else picture

    def _inside(self, masks_nhw: Tensor) -> Tensor:
        """Masks as they are in here: float32, mirrored if need be, padded with background."""
        return padded(self._turned(masks_nhw.to(self.device).float().clamp(0, 1)))

    def _outside(self, probabilities: Tensor, features: NetworkFeatures) -> Tensor:
        return self._turned(features.crop(probabilities))


def _check_size(features: NetworkFeatures, state: NetworkState) -> None:
    if features.size_hw != state.size_hw:
        raise InputError(
            f"a frame is {_by(features.size_hw)} but the one before was {_by(state.size_hw)}: "
            "frames must be of one size"
        )


def _check_masks(masks_nhw: Tensor, object_ids: Sequence[int], size_hw: tuple[int, int]) -> None:
    if tuple(masks_nhw.shape) != (len(object_ids), *size_hw):
        raise InputError(f"{len(object_ids)} masks of {_by(size_hw)} are needed, not {list(masks_nhw.shape)}")
    if len(set(object_ids)) < len(object_ids):
        twice = next(object_id for n, object_id in enumerate(object_ids) if object_id in object_ids[:n])
        raise InputError(f"object {twice} has two masks: give one mask for each object")
    if masks_nhw.numel() and masks_nhw.dtype != torch.bool:
        low, high = masks_nhw.aminmax()
        if not (low > -SLACK and high < 1 + SLACK):
            raise InputError(f"values of masks are in [0, 1], not from {low.item():g} to {high.item():g}")


def _by(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[0]}×{size_hw[1]}"


def _dtype(precision: Precision, device: torch.device) -> torch.dtype:
    named = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in get_args(Precision):
        raise InputError(f"precision is one of {', '.join(get_args(Precision))}, not {precision!r}")
    return named["bf16" if _computes_bf16(device) else "fp32"] if precision == "auto" else named[precision]


def _computes_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster: on processors it takes instructions for it; where it is emulated, it is slower."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Private, but there is no public way to ask.
    supported = (getattr(torch.cpu, name, bool) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return device.type == "cpu" and any(ask() for ask in supported)


def _compiled(network: PropagationNetwork) -> PropagationNetwork:
    """The same weights, with methods that compile themselves when first called."""
    network = copy.copy(network)
    for name in ("encode_image", "encode_masks", "decode"):
        setattr(network, name, torch.compile(getattr(network, name), dynamic=None))
    return network
