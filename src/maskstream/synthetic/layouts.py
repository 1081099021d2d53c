"""Synthetic video on disk, as the benchmark of each task lays it out (datasets specification, part C).

===========  ================  ====================================================================================
task         benchmark         truth; results
===========  ================  ====================================================================================
vos, uvos    DAVIS-2017        JPEGImages, Annotations(_unsupervised), ImageSets; VIDEO/00000.png
vis          YouTube-VIS       valid/JPEGImages, valid/instances.json; results.json
vps          VIPSeg at 720p    images, panomasksRGB, panoptic_gt_VIPSeg_val.json; pred.json, pan_pred
vss          VSPW              data/VIDEO/origin and mask, label_num_dic_final.json; VIDEO/00000.png
refvos       Ref-YouTube-VOS   valid, meta_expressions/valid; Annotations/VIDEO/EXPRESSION/00000.png
pet, owvs    BURST             frames/val, annotations/val and info; exemplar_guided.json, open_world.json
pvos         VIPOSeg           valid/JPEGImages, Annotations and Annotations_gt; VIDEO/00000000.png
===========  ================  ====================================================================================

Every set is a validation set that shows its truth, also where the official one hides it. Videos are read once, frame
by frame, and what is kept of a video is run-length codes at most. The writers are those of ``formats/``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from maskstream.files import whole_folder
from maskstream.formats.burst import write_burst, write_burst_exemplar_results, write_burst_open_world_results
from maskstream.formats.davis import (
    write_davis,
    write_davis_results,
    write_davis_unsupervised,
    write_davis_unsupervised_results,
)
from maskstream.formats.panoptic import write_vipseg, write_vipseg_results
from maskstream.formats.referring import as_answers, write_ref_youtube_vos, write_ref_youtube_vos_results
from maskstream.formats.semantic_png import write_vspw, write_vspw_results
from maskstream.formats.viposeg import write_viposeg, write_viposeg_results
from maskstream.formats.youtube_vis import write_youtube_vis, write_youtube_vis_results
from maskstream.types import CategorySet, Task, VideoSample

from .scene import WORLD

Writer: TypeAlias = Callable[[Path, Iterable[VideoSample], CategorySet], None]

TRUTH_WRITERS: dict[Task, Writer] = {
    Task.VOS: write_davis,
    Task.UVOS: write_davis_unsupervised,
    Task.VIS: write_youtube_vis,
    Task.VPS: write_vipseg,
    Task.VSS: write_vspw,
    Task.REFVOS: write_ref_youtube_vos,
    Task.PET: write_burst,
    Task.OWVS: write_burst,
    Task.PVOS: write_viposeg,
}
"""What writes the truth of each task."""

RESULT_WRITERS: dict[Task, Writer] = {
    Task.VOS: write_davis_results,
    Task.UVOS: write_davis_unsupervised_results,
    Task.VIS: write_youtube_vis_results,
    Task.VPS: write_vipseg_results,
    Task.VSS: write_vspw_results,
    Task.REFVOS: lambda path, videos, known: write_ref_youtube_vos_results(path, map(as_answers, videos), known),
    Task.PET: write_burst_exemplar_results,
    Task.OWVS: write_burst_open_world_results,
    Task.PVOS: write_viposeg_results,
}
"""What writes it as results."""


def write_dataset(
    path: Path,
    task: Task,
    videos: Iterable[VideoSample],
    *,
    categories: CategorySet = WORLD,
    as_predictions: bool = False,
) -> None:
    """Write videos in the layout of the benchmark of a task. The folder appears whole or not at all.

    Args:
        path: the folder to make; it may exist if it is empty.
        task: which of the nine.
        videos: what to write.
        categories: the label space of their annotation.
        as_predictions: write the truth as results of that benchmark: what a perfect system would hand in.

    Raises:
        OutputError: there is something at this place, or it cannot be written.
    """
    writer = (RESULT_WRITERS if as_predictions else TRUTH_WRITERS)[task]
    with whole_folder(path) as building:
        writer(building, videos, categories)
