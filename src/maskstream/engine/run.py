"""One video through one session into one output folder, continued where an earlier attempt stopped.

Every ``checkpoint_every`` results the sinks are made durable and the state of the session is saved beside them. A run
that is killed continues from the last such point; as sessions are deterministic and files are cut back to that point,
the folder ends in the same bytes as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskstream.formats.events import EventWriter
from maskstream.formats.journal import Journal, JournalWriter
from maskstream.formats.tracks import JournalIndex, index_journal, write_tracks
from maskstream.sinks.folder import RunFolder
from maskstream.sinks.frames import FrameSink, LineSink, MaskSink, OverlaySink, ScoreSink, SinkThreads
from maskstream.sinks.report import TrackRow, write_report
from maskstream.types import (
    OBJECT,
    CategorySet,
    Frame,
    FrameSegmentation,
    OutputError,
    Session,
    StateDict,
    Video,
    VideoError,
)
from maskstream.video import prefetch


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run came to.

    Attributes:
        frames: frames in the output.
        continued_from: how many of them an earlier attempt had finished.
        tracks: objects found.
    """

    frames: int
    continued_from: int
    tracks: int


def segment_to_folder(
    video: Video,
    session: Session,
    folder: RunFolder,
    *,
    categories: CategorySet = OBJECT,
    audio_from: Path | None = None,
    facts: Mapping[str, str] | None = None,
    removals: Mapping[int, Sequence[int]] | None = None,
    save_scores: bool = False,
    pictures: bool = True,
    checkpoint_every: int = 100,
    on_frame: Callable[[int], None] = lambda done: None,
) -> RunSummary:
    """Segment a video into its folder, or continue doing so.

    Args:
        video: the frames.
        session: fresh, with its prompts queued; an earlier attempt's state is loaded into it.
        folder: where everything goes.
        categories: the label space of the session.
        audio_from: the file whose sound goes under the overlay, or None.
        facts: lines for the report.
        removals: by ``Frame.index``, objects to stop following before that frame.
        save_scores: write the probabilities that the session gives, too.
        pictures: write masks, overlay, ``tracks.json`` and report, not the journal and events alone.
        checkpoint_every: results between two points to continue from. Part of what decides the overlay's bytes.
        on_frame: called with the number of finished frames.

    Returns:
        What the whole run came to, earlier attempts included.

    Raises:
        OutputError: a file could not be written; everything finished is kept and the run can be continued.
        VideoError: the run is to be continued but the source cannot be read again.
    """
    if folder.complete:
        folder.clear_progress()
        index = index_journal(Journal(folder.journal))
        return RunSummary(len(index.frame_indices), len(index.frame_indices), len(index.tracks))
    try:
        done = _segment_frames(
            video,
            session,
            folder,
            categories,
            audio_from,
            removals or {},
            save_scores,
            pictures,
            checkpoint_every,
            on_frame,
        )
        index = index_journal(Journal(folder.journal))
        if pictures:
            write_tracks(folder.tracks, index, video_name=Path(video.name).stem, categories=categories)
            write_run_report(folder, video, index, categories, facts or {})
        folder.finish()
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise OutputError(
            f"cannot write to {folder.path}: {error.strerror or error}{where}; finished frames are kept: "
            "free space or permission there, then run the same command again"
        ) from error
    return RunSummary(len(index.frame_indices), done, len(index.tracks))


def _segment_frames(
    video: Video,
    session: Session,
    folder: RunFolder,
    categories: CategorySet,
    audio_from: Path | None,
    removals: Mapping[int, Sequence[int]],
    save_scores: bool,
    pictures: bool,
    checkpoint_every: int,
    on_frame: Callable[[int], None],
) -> int:
    """Bring the frame sinks to the end of the video; return how many frames had been finished before."""
    snapshot = folder.snapshot()
    if snapshot is not None and not video.seekable:
        raise VideoError(f"{video.name} cannot be read twice, so this run cannot be continued: use --overwrite")
    state: StateDict = snapshot or {"done": 0, "stepped": -1, "resume_from": 0, "sinks": {}}
    if snapshot is not None:
        session.load_state_dict(snapshot["session"])
    positions = {name: state["sinks"].get(name, {}).get("position") for name in ("journal", "events")}
    sinks: dict[str, FrameSink] = {
        "journal": LineSink(JournalWriter(folder.journal, size_hw=video.size_hw, position=positions["journal"])),
        "events": LineSink(EventWriter(folder.events, position=positions["events"])),
    }
    overlay = None
    if pictures:
        earlier = state["sinks"].get("overlay")
        overlay = OverlaySink(folder, video.size_hw, earlier, fps=video.fps, categories=categories)
        sinks |= {"masks": MaskSink(folder), "overlay": overlay}
    scores = ScoreSink(folder, Path(video.name).stem, state["sinks"].get("scores")) if save_scores else None
    if scores is not None:
        sinks["scores"] = scores
    done: int = state["done"]
    stepped: int = state["stepped"]
    held_back: dict[int, Frame] = {}  # frames the session has seen but not answered yet
    threads = SinkThreads(sinks)

    def emit(result: FrameSegmentation) -> None:
        nonlocal done
        threads.write(held_back.pop(result.frame_index), result)
        done += 1
        on_frame(done)

    try:
        for frame in prefetch(video.frames_from(state["resume_from"])):
            held_back[frame.index] = frame
            if frame.index <= stepped:
                continue
            session.remove(removals.get(frame.index, ()))
            before = done
            for result in session.step(frame):
                emit(result)
            stepped = frame.index
            if done // checkpoint_every > before // checkpoint_every:
                folder.save_snapshot(
                    {
                        "session": session.state_dict(),
                        "sinks": threads.checkpoint(),
                        "done": done,
                        "stepped": stepped,
                        "resume_from": min(held_back, default=stepped + 1),
                    }
                )
        for result in session.finish():
            emit(result)
        threads.checkpoint()
    finally:
        threads.close()
    if scores is not None:
        scores.write_listing(video.size_hw)
    if overlay is not None:
        first = next(iter(Journal(folder.journal)), None)
        overlay.join(audio_from=audio_from, start=first.timestamp if first else 0.0)
    return int(state["done"])


def write_run_report(
    folder: RunFolder,
    video: Video,
    index: JournalIndex,
    categories: CategorySet,
    facts: Mapping[str, str],
    *,
    charts: Sequence[str] = (),
) -> None:
    """Write ``report.html`` of a run.

    Args:
        folder: of the run.
        video: what was segmented.
        index: of its journal.
        categories: the label space.
        facts: lines for the report.
        charts: sections of HTML to show beside what every report has.
    """
    picture = video.size_hw[0] * video.size_hw[1]
    rows = []
    for track_id, track in index.tracks.items():
        named = None if track.segment.category is None else categories[track.segment.category].name
        rows.append(
            TrackRow(
                track_id=track_id,
                label=named or track.segment.prompt_id or "object",
                frames=tuple(track.frames),
                areas=tuple(area / picture for area in track.areas),
            )
        )
    write_report(
        folder.report,
        title=video.name,
        overlay=folder.overlay if folder.overlay.exists() else None,
        run=facts,
        tracks=rows,
        frame_count=len(index.frame_indices),
        charts=charts,
    )
