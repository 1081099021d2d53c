"""What ``batch`` does to one video: all of it in one go, or in pieces that become one (see `split`).

A job is worked on aside, and renamed when it is finished: a video in ``videos``, a piece in ``.pieces`` until the
others of its video are there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from maskstream.files import write_text_atomic
from maskstream.formats.journal import Journal
from maskstream.formats.tracks import index_journal
from maskstream.sinks.folder import OwnedFolder, RunFolder
from maskstream.types import CategorySet, OutputError, VideoSegmenter

from .backend import Decoder, Job, Outcome, TrackRow, Worker, tried
from .offline import OfflineSession
from .segment import Plan, Prepared, SegmentOptions, planned, prepared
from .sources import local_copy
from .split import Piece, Segmented, Split, asked_for, cut_up, plan_of, stitched


@dataclass(frozen=True, slots=True)
class BatchWork:
    """What is done to every video; see `Work`.

    Attributes:
        options: how videos are segmented.
        weights: digests of the files of weights.
        output: the folder of the whole.
        split: where long videos are cut; None for not at all.
    """

    options: SegmentOptions
    weights: Mapping[str, str]
    output: Path
    split: Split | None = None

    @property
    def videos(self) -> Path:
        """Where finished videos are."""
        return self.output / "videos"

    @property
    def unfinished(self) -> Path:
        """Where videos are worked on."""
        return self.output / ".unfinished"

    @property
    def pieces(self) -> Path:
        """Where finished pieces wait for the rest of their videos."""
        return self.output / ".pieces"

    def place_of(self, job: Job) -> Path:
        """Where what comes of a job is when it is finished."""
        return self.videos / job.video if job.piece is None else self.pieces / job.video / f"{job.piece.number:05d}"

    def begin(self) -> Worker:
        """Load the system; see `Work.begin`."""
        return partial(attempt, work=self, system=self.options.load())


def attempt(
    job: Job,
    *,
    work: BatchWork,
    system: VideoSegmenter,
    aside: Path,
    content: bytes | None = None,
    decoder: Decoder = lambda video: video,
    on_frame: Callable[[int], None] = lambda done: None,
) -> Outcome:
    """Do a video or a piece of one; see `Worker`.

    A video that is to be cut comes several times: first to see where, then, when its pieces are there, to be put
    together.

    Args:
        job: the video.
        work: what is done to it.
        system: that of the work.
        aside: see there, as for the others.
        content: see there.
        decoder: see there.
        on_frame: see there.
    """

    def do() -> Outcome:
        plan = planned(work.options, job.words)
        final, frames = work.place_of(job), 0
        if not final.exists():
            with local_copy(job.source, aside.with_name(f"{aside.name}.source"), content=content) as path:
                mine = plan if job.piece is None else plan_of(plan, job.piece, system)
                ready = prepared(mine, system, path, weights=work.weights)
                if work.split is not None and job.piece is None:
                    pieces = _pieces(ready, plan, system, work, job, path)
                    if missing := tuple(one.piece for one in pieces if one.folder and not one.folder.exists()):
                        return Outcome(job.name, pieces=missing)
                    ready = _from_pieces(ready, work, pieces)
                folder = _own(RunFolder, aside, ready.request)
                ready = replace(ready, video=decoder(ready.video))
                frames = ready.run(folder, pictures=job.piece is None, on_frame=on_frame).frames
            _move(aside, final)
        if job.piece is not None:
            return Outcome(job.name, frames=frames)
        shutil.rmtree(work.pieces / job.video, ignore_errors=True)
        frames, tracks = summarised(final, job.name, plan.categories(system))
        return Outcome(job.name, frames=frames, tracks=tracks)

    return tried(job.name, aside, do)


def _pieces(
    ready: Prepared, plan: Plan, system: VideoSegmenter, work: BatchWork, job: Job, path: str
) -> list[Segmented]:
    """The pieces of a video, and where what comes of them is to be; none when it is done as a whole.

    Where it is cut is found once, and noted.
    """
    assert work.split is not None
    folder = _own(OwnedFolder, work.pieces / job.video, _request_in_pieces(ready, work))
    listing = folder.path / "pieces.json"
    if not listing.exists():
        found = cut_up(work.split, path, work.options)
        write_text_atomic(listing, json.dumps([asdict(piece) for piece in found]) + "\n")
    pieces = [Piece(**row) for row in json.loads(listing.read_text(encoding="utf-8"))]
    segmented = []
    for piece in pieces if len(pieces) > 1 else ():
        asked = asked_for(plan_of(plan, piece, system))
        is_empty = plan.task(system).is_prompted and not asked
        place = work.place_of(replace(job, piece=piece))
        segmented.append(Segmented(piece, asked, None if is_empty else place))
    return segmented


def _from_pieces(ready: Prepared, work: BatchWork, pieces: Sequence[Segmented]) -> Prepared:
    """The video with the results of its pieces in the place of the model's; as it is when it has none."""
    if not pieces:
        return ready
    results = partial(stitched, pieces, size_hw=ready.video.size_hw, stride=work.options.stride)
    begin = ", ".join(str(one.piece.first) for one in pieces)
    return replace(
        ready,
        session=OfflineSession(lambda prompts: results()),
        request=_request_in_pieces(ready, work),
        facts={**ready.facts, "pieces begin on frames": begin},
    )


def _request_in_pieces(ready: Prepared, work: BatchWork) -> dict[str, object]:
    options, split = ready.request["options"], work.split
    assert isinstance(options, Mapping)
    assert split is not None
    return {**ready.request, "options": {**options, "split": asdict(split)}}


FolderT = TypeVar("FolderT", bound=OwnedFolder)


def _own(kind: type[FolderT], path: Path, request: Mapping[str, object]) -> FolderT:
    """A folder to work in; what another request left there, as the video was another then, makes room."""
    try:
        return kind(path, request)
    except OutputError:
        shutil.rmtree(path, ignore_errors=True)
        return kind(path, request)


def _move(aside: Path, final: Path) -> None:
    """Give what is finished its name, unless another attempt was quicker."""
    try:
        final.parent.mkdir(exist_ok=True)
        aside.rename(final)
    except OSError as error:
        if not final.exists():
            raise OutputError(f"cannot write {final}: {error.strerror or error}") from error
        shutil.rmtree(aside, ignore_errors=True)


def summarised(folder: Path, name: str, categories: CategorySet | None) -> tuple[int, tuple[TrackRow, ...]]:
    """How many frames a finished video has, and its tracks."""
    journal = Journal(folder / "segments.jsonl")
    index = index_journal(journal)
    picture = journal.size_hw[0] * journal.size_hw[1]
    rows = []
    for track_id, track in index.tracks.items():
        seen = track.segment
        area = sum(track.areas) / len(track.areas)
        rows.append(
            TrackRow(
                name,
                track_id,
                categories[seen.category].name if categories and seen.category is not None else "",
                seen.category,
                seen.score,
                seen.prompt_id,
                index.frame_indices[track.frames[0]],
                index.frame_indices[track.frames[-1]],
                len(track.frames),
                round(area, 2),
                round(area / picture, 6),
            )
        )
    return len(index.frame_indices), tuple(rows)
