"""SAM 2, EdgeTAM and SAM 3 through our session and the library's own loop: what is kept, how long a frame takes.

    python benchmarks/hub.py [--kind sam2|edgetam|sam3] [--side 128] [--frames 30] [--objects 1 8] [--device cpu]
    python benchmarks/hub.py --frames 2000 --save        # minutes; writes results/hub.jsonl and .md, and draws curves

The geometry is that of sam2.1-hiera-tiny (EdgeTAM's: its memory, on the same encoder; SAM 3's: with a small
encoder, eight queries, and as many objects as it may find), the weights are random, which cost as much as trained ones.
Both see the same frames of a video in turn, and say whose each pixel is; the library stops after some, ours goes on.
Time is the median of the frames after the memory is full, on a CPU that of the processor, so that what else the machine
does does not count; what is kept is every tensor that is held from one frame to the next. Where ours goes on alone, the
memory of the whole process is measured, too. Ends with exit code 1 when ours grows by more than 10 % once it is full.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    EdgeTamVideoConfig,
    EdgeTamVideoModel,
    PreTrainedTokenizerFast,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam3VideoConfig,
    Sam3VideoModel,
)
from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoInferenceSession
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession
from transformers.models.sam3_video.modeling_sam3_video import Sam3VideoInferenceSession

from maskstream.files import write_text_atomic
from maskstream.mask2former.postprocess import FrameSizes, owners, resized
from maskstream.pretrained import Pixels
from maskstream.systems.hub import EdgeTamParts, Sam2Parts, Sam3, Sam3Parts, Sam3Settings, SamVideo
from maskstream.types import CategorySet, Frame, MaskPrompt, Session, Task

SIZE = (240, 428)
FULL = {"sam2": 18, "edgetam": 18, "sam3": 64}
"""Frames after which nothing more is kept: those of which pointers are kept, and some; of SAM 3, those on which a
detection may say anew what an object looks like, as often as that is kept."""
QUERIES = 8
RESULTS = Path(__file__).parent / "results" / "hub.jsonl"
CURVES = Path(__file__).parents[1] / "docs" / "images" / "hub-memory.svg"


@dataclass(frozen=True, slots=True)
class Run:
    """What a run showed.

    Attributes:
        kind: of the network.
        side: of the pictures that it sees.
        objects: how many are followed.
        device: where it ran.
        seconds: a frame took, by who did it.
        frames: on which it was measured what is kept, by who kept it.
        held: bytes that were kept then.
        resident: bytes of the whole process on such frames of ours; None while the library went along.
    """

    kind: str
    side: int
    objects: int
    device: str
    seconds: dict[str, float]
    frames: dict[str, list[int]]
    held: dict[str, list[int]]
    resident: list[int | None]


def build(kind: str, side: int, objects: int) -> Any:
    """A network for pictures of this side; SAM 3 finds so many objects."""
    torch.manual_seed(0)
    network: Any
    if kind == "sam3":
        return build_sam3(side // 14 * 14, objects)
    sizes = [side // 4, side // 8, side // 16]
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": {"model_type": "sam2_hiera_det_model", "image_size": [side, side]},
        "backbone_feature_sizes": [[size, size] for size in sizes],
    }
    options: dict[str, Any] = {
        "vision_config": vision,
        "image_size": side,
        "prompt_encoder_config": {"image_size": side},
        "memory_attention_rope_feat_sizes": [sizes[2], sizes[2]],
    }
    if kind == "sam2":
        network = Sam2VideoModel(Sam2VideoConfig(**options))
        return network.eval()
    windows = min(16, sizes[2])
    options |= {
        "memory_attention_rope_k_sizes": [windows, windows],
        "perceiver_resampler_num_latents_2d": windows**2,
    }
    network = EdgeTamVideoModel(EdgeTamVideoConfig(**options))
    return network.eval()


def build_sam3(side: int, objects: int) -> Any:
    """It takes whatever it finds for objects; what it follows is there."""
    config: Any = Sam3VideoConfig(det_nms_thresh=0.0, score_threshold_detection=0.0, max_num_objects=objects)
    config.image_size = side
    config.low_res_mask_size = side // 14 * 4
    config.detector_config.detr_decoder_config.num_queries = QUERIES
    config.detector_config.text_config.num_hidden_layers = 1
    vision = config.detector_config.vision_config.backbone_config
    vision.num_hidden_layers, vision.global_attn_indexes = 2, [1]
    vision.hidden_size, vision.intermediate_size, vision.num_attention_heads = 128, 512, 4
    network: Any = Sam3VideoModel(config)
    torch.nn.init.constant_(network.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias, 3.0)
    return network.eval()


def clip(count: int) -> Iterator[Frame]:
    """Noise that drifts."""
    ground = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    for n in range(count):
        yield Frame(n, n / 24, np.roll(ground, 3 * n, axis=1))


def masks(count: int) -> list[Tensor]:
    """Blocks side by side."""
    result = []
    for n in range(count):
        mask = torch.zeros(SIZE, dtype=torch.bool)
        mask[40 : 40 + 100, 10 + 50 * n : 50 + 50 * n] = True
        result.append(mask)
    return result


def tensor_bytes(what: object, seen: set[int]) -> int:
    """Of all tensors in containers and the attributes of objects, each once."""
    if isinstance(what, Tensor):
        known = what.untyped_storage().data_ptr() in seen
        seen.add(what.untyped_storage().data_ptr())
        return 0 if known else what.untyped_storage().nbytes()
    if isinstance(what, Mapping):
        return sum(tensor_bytes(value, seen) for value in what.values())
    if isinstance(what, list | tuple):
        return sum(tensor_bytes(value, seen) for value in what)
    return tensor_bytes(vars(what), seen) if type(what).__name__.endswith("Cache") else 0


def words() -> Any:
    """What cuts text into tokens; one word is known."""
    tokenizer = Tokenizer(models.WordLevel({"thing": 1, "!": 0}, unk_token="!"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special: dict[str, Any] = {"pad_token": "!", "unk_token": "!"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)  # type: ignore[no-untyped-call]


def ours(kind: str, network: Any, objects: int) -> Any:
    """Our session, with its prompts."""
    session: Session
    if kind == "sam3":
        parts = Sam3Parts(network, words())
        system = Sam3(parts, Pixels(exact_hw=(parts.side, parts.side)), settings=Sam3Settings(at_once=True))
        return system.start(Task.VIS, size_hw=SIZE, categories=CategorySet.from_names(["thing"]))
    pixels = Pixels(exact_hw=(network.image_size, network.image_size))
    session = SamVideo((Sam2Parts if kind == "sam2" else EdgeTamParts)(network), pixels).start(Task.VOS, size_hw=SIZE)
    session.prompt([MaskPrompt(0, n, mask) for n, mask in enumerate(masks(objects), 1)])
    return session


def theirs(kind: str, network: Any, objects: int) -> tuple[Any, Callable[[Frame], object]]:
    """The library's session, with its prompts, and what it does with a frame."""
    sessions: dict[str, Any] = {
        "sam2": Sam2VideoInferenceSession,
        "edgetam": EdgeTamVideoInferenceSession,
        "sam3": Sam3VideoInferenceSession,
    }
    device = network.device
    session = sessions[kind](
        video_height=SIZE[0],
        video_width=SIZE[1],
        dtype=torch.float32,
        inference_device=device,
        inference_state_device=device,
        video_storage_device=device,
    )
    side = network.tracker_model.image_size if kind == "sam3" else network.image_size
    pixels = Pixels(exact_hw=(side, side))
    if kind == "sam3":
        tokens = words()("thing", return_tensors="pt", padding="max_length", max_length=32).to(device)
        session.prompt_input_ids[session.add_prompt("thing")] = tokens["input_ids"]
        session.prompt_attention_masks[0] = tokens["attention_mask"]

        def step_concepts(frame: Frame) -> None:
            found = network(session, frame=pixels([frame]))
            _ = resized(torch.cat(list(found.obj_id_to_mask.values())), SIZE) > 0

        return session, step_concepts
    for mask in masks(objects):
        number = session.obj_id_to_idx(len(session.obj_ids) + 1)
        large = torch.nn.functional.interpolate(mask[None, None].float(), (side, side), mode="bilinear", antialias=True)
        session.add_mask_inputs(number, 0, (large >= 0.5).float())
    session.obj_with_new_inputs = list(session.obj_ids)

    def step(frame: Frame) -> None:
        found = network(session, frame=pixels([frame]))
        mask_hw = (found.pred_masks.shape[2], found.pred_masks.shape[3])
        owners(found.pred_masks[:, 0], torch.ones(objects, device=device), FrameSizes(SIZE, mask_hw, mask_hw))

    return session, step


def watch(kind: str, network: Any, side: int, objects: int, frames: int, library_frames: int) -> Run:
    """Both over a video, the library over its first frames."""
    device = network.device
    mine = ours(kind, network, objects)
    library, step_library = theirs(kind, network, objects)
    steps: dict[str, Callable[[Frame], object]] = {"ours": mine.step, "library": step_library}
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    at: dict[str, list[int]] = {name: [] for name in steps}
    held: dict[str, list[int]] = {name: [] for name in steps}
    resident: list[int | None] = []
    every = max(1, frames // 200)
    for frame in clip(frames):
        if frame.index == library_frames:
            library, steps = None, {"ours": mine.step}
        # Who comes second finds the caches full of what the other one left.
        for name, step in sorted(steps.items(), reverse=frame.index % 2 == 1):
            _wait(device)
            start = clock()
            step(frame)
            _wait(device)
            seconds[name].append(clock() - start)
        if frame.index % every == 0 or frame.index in (FULL[kind], frames - 1):
            kept = {"ours": mine.state_dict(), "library": None if library is None else vars(library)}
            for name in steps:
                at[name].append(frame.index)
                held[name].append(tensor_bytes(kept[name], set()))
            resident.append(psutil.Process().memory_info().rss if library is None else None)
    medians = {name: statistics.median(taken[FULL[kind] : library_frames]) for name, taken in seconds.items()}
    return Run(kind, side, objects, device.type, medians, at, held, resident)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def is_flat(run: Run) -> bool:
    """Whether ours kept no more at the end than when it was full, and the process neither."""
    full = run.held["ours"][run.frames["ours"].index(FULL[run.kind])]
    alone = [nbytes for nbytes in run.resident if nbytes is not None]
    return max(run.held["ours"][-1] / full, max(alone[-1:], default=0) / max(alone[:1], default=1)) <= 1.1


def said(run: Run) -> str:
    """For people."""
    lines = [f"\n{run.kind}, {run.objects} object(s), pictures of {run.side}×{run.side}, {run.device}"]
    lines.append(" frame   ours, MiB   library, MiB")
    library = dict(zip(run.frames["library"], run.held["library"], strict=True))
    rows = list(zip(run.frames["ours"], run.held["ours"], strict=True))
    for n, nbytes in [*rows[:: max(1, len(rows) // 8)], rows[-1]]:
        other = f"{library[n] / 2**20:12.2f}" if n in library else ""
        lines.append(f"{n:6}  {nbytes / 2**20:10.2f}  {other}")
    mine, others = run.seconds["ours"], run.seconds["library"]
    times = f"a frame takes {1e3 * mine:.1f} ms, the library's loop {1e3 * others:.1f} ms: {others / mine:.2f} times"
    alone = [nbytes for nbytes in run.resident if nbytes is not None]
    if alone:
        times += (
            f"; the process had {alone[0] / 2**20:.0f} MiB when ours went on alone, {alone[-1] / 2**20:.0f} at the end"
        )
    return "\n".join([*lines, times])


# ------------------------------------------------------------------ what is kept


def saved(runs: Sequence[Run]) -> list[Run]:
    """These, in place of earlier ones of the same kind."""
    known: dict[tuple[object, ...], Run] = {}
    if RESULTS.exists():
        for line in RESULTS.read_text(encoding="utf-8").splitlines():
            run = Run(**json.loads(line))
            known[run.kind, run.objects, run.device] = run
    known |= {(run.kind, run.objects, run.device): run for run in runs}
    everything = [known[key] for key in sorted(known, key=str)]
    write_text_atomic(RESULTS, "".join(json.dumps(asdict(run)) + "\n" for run in everything))
    write_text_atomic(RESULTS.with_suffix(".md"), table(everything))
    write_text_atomic(CURVES, drawn([run for run in everything if run.device == "cpu"]))
    return everything


def table(runs: Sequence[Run]) -> str:
    """What runs showed, in Markdown."""
    lines = [
        "# SAM 2, EdgeTAM and SAM 3: what is kept, and how long a frame takes",
        "",
        "Written by `python benchmarks/hub.py --save`, which says how it is measured.",
        "",
        "| | objects | side | a frame, ours | a frame, library | | kept when full, ours | at the end, ours "
        "| kept by the library |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        mine, others = run.seconds["ours"], run.seconds["library"]
        full = run.held["ours"][run.frames["ours"].index(FULL[run.kind])]
        lines.append(
            f"| {run.kind}, {run.device} | {run.objects} | {run.side} | {1e3 * mine:.0f} ms | {1e3 * others:.0f} ms "
            f"| {others / mine:.2f} | {full / 2**20:.2f} MiB, frame {FULL[run.kind]} "
            f"| {run.held['ours'][-1] / 2**20:.2f} MiB, frame {run.frames['ours'][-1]} "
            f"| {run.held['library'][-1] / 2**20:.1f} MiB, frame {run.frames['library'][-1]} |"
        )
    return "\n".join(lines) + "\n"


_PANEL_HW, _MARGIN_XY = (230, 300), (52, 34)
_NAMES = {"sam2": "SAM 2", "edgetam": "EdgeTAM", "sam3": "SAM 3, concepts"}
_COLOURS = {"ours": "#1f6fb2", "library": "#c0392b"}


def drawn(runs: Sequence[Run]) -> str:
    """What is kept over time, a panel for each kind, as SVG; bytes on a logarithmic scale."""
    kinds = [kind for kind in _NAMES if any(run.kind == kind for run in runs)]
    last = max(run.frames["ours"][-1] for run in runs)
    everything = [nbytes for run in runs for held in run.held.values() for nbytes in held if nbytes]
    low, high = np.floor(np.log10(min(everything) / 2**20)), np.ceil(np.log10(max(everything) / 2**20))
    (height, width), (left, top) = _PANEL_HW, _MARGIN_XY
    whole = (left + max(2, len(kinds)) * (width + 24), top + height + 72)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole[0]} {whole[1]}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{whole[0]}" height="{whole[1]}" fill="#fff"/>',
    ]

    def above(nbytes: float) -> float:
        return height * float((np.log10(nbytes / 2**20) - low) / (high - low))

    for number, kind in enumerate(kinds):
        x0, y0 = left + number * (width + 24), top + height
        parts.append(f'<text x="{x0}" y="{top - 12}" font-weight="bold">{_NAMES[kind]}</text>')
        for power in range(int(low), int(high) + 1):
            y = y0 - above(10.0**power * 2**20)
            parts.append(f'<path d="M{x0} {y:.1f}h{width}" stroke="#ddd"/>')
            if number == 0:
                parts.append(f'<text x="{x0 - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
        parts += [f'<text x="{x0 + width * n / last:.0f}" y="{y0 + 16}">{n}</text>' for n in (0, (last + 1) // 2)]
        parts.append(f'<text x="{x0 + width}" y="{y0 + 16}" text-anchor="end">{last + 1}</text>')
        for run in (run for run in runs if run.kind == kind):
            for name, held in run.held.items():
                points = [
                    f"{x0 + width * n / last:.1f},{y0 - above(nbytes):.1f}"
                    for n, nbytes in zip(run.frames[name], held, strict=True)
                    if nbytes
                ]
                parts.append(
                    f'<polyline points="{" ".join(points)}" fill="none" stroke="{_COLOURS[name]}" stroke-width="2"'
                    f"{_dash(run.objects)}/>"
                )
    parts.append(f'<text x="{left}" y="{top + height + 36}">MiB that are kept, over frames</text>')
    keys = [("ours", 1), ("ours", 8), ("library", 1), ("library", 8)]
    for number, (name, objects) in enumerate(keys):
        x, y = left + 150 * number, top + height + 54
        what = f"{name}, {objects} object" + "s" * (objects > 1)
        parts.append(f'<path d="M{x} {y}h28" stroke="{_COLOURS[name]}" stroke-width="2"{_dash(objects)}/>')
        parts.append(f'<text x="{x + 34}" y="{y + 4}">{what}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _dash(objects: int) -> str:
    return "" if objects == 1 else ' stroke-dasharray="5 3"'


def main() -> None:
    """Run both, print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=tuple(FULL), default="sam2")
    parser.add_argument("--side", type=int, default=128, help="of the pictures that the network sees")
    parser.add_argument("--frames", type=int, help="of ours; 30 unless said, and 80 of SAM 3")
    parser.add_argument(
        "--library-frames", type=int, default=200, help="at most so many of them for the library's loop"
    )
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save", action="store_true", help="keep what came out, and draw it")
    options = parser.parse_args()
    frames = options.frames or FULL[options.kind] + 16
    if min(frames, options.library_frames) <= FULL[options.kind]:
        parser.error(f"the memory is full after {FULL[options.kind]} frames: run more")
    if max(options.objects) > 8:
        parser.error("there is room for 8 objects")
    runs = []
    for objects in options.objects:
        network = build(options.kind, options.side, objects).to(options.device)
        runs.append(watch(options.kind, network, options.side, objects, frames, options.library_frames))
        print(said(runs[-1]), flush=True)
    if options.save:
        saved(runs)
    sys.exit(not all(is_flat(run) for run in runs))


if __name__ == "__main__":
    main()
