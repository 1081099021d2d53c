"""A project that is open, with everything that works on it: editor, jobs, pictures."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeAlias

from maskstream.conversion import FORMATS
from maskstream.types import OBJECT, InputError

from .editing import Editor
from .events import Event
from .exporting import OVERLAY, Imported, check_format, export, read_masks, unpacked
from .following import Following
from .history import Changes
from .jobs import Job, Jobs
from .models import LazyPrompter, Models
from .pictures import BUDGET, ByteCache, FramePictures, ids_png, shown_height
from .project import Change, Project
from .records import Json, Mask, places
from .security import Roots, check_video, confined
from .uploads import Upload, remove_leftovers

EXPORTS = "/api/exports/"
"""Where exports are found."""
_FrameOfMasks: TypeAlias = tuple[int, dict[int, Mask]]
"""A frame and its masks, by the number of an object."""
_MASKS_BUDGET, _THUMBNAILS_BUDGET = 64 * 2**20, 16 * 2**20


class Opened:
    """A project that is open; for any number of threads.

    Args:
        project: opened; it is closed with this.
        video: path of its video.
        models: to work with.
        tell: called with every event of a job.

    Attributes:
        users: how many use it now; counted by the studio.
    """

    def __init__(self, project: Project, video: Path, models: Models, tell: Callable[[Event], None]) -> None:
        self.project = project
        self.video = video
        self.users = 0
        self.jobs = Jobs()
        self.editor = Editor(project, LazyPrompter(models), self.jobs)
        names = models.names
        self.following = Following(
            project,
            self.jobs,
            propagator=models.propagator,
            segmenter=models.segmenter,
            names=(names.propagator, names.segmenter),
        )
        self.frames = FramePictures(project.video, ByteCache(BUDGET))
        # Apart, so that scrubbing does not wait for them.
        self.thumbnails = FramePictures(project.video, ByteCache(_THUMBNAILS_BUDGET), ahead=0)
        self._masks = ByteCache(_MASKS_BUDGET)
        self._versions: dict[int, int] = {}
        project.store.watch(self._note)
        remove_leftovers(project.folder)
        self.jobs.listen(tell)

    def close(self) -> None:
        """Stop the job and close the project. Nobody else may use it any more."""
        self.jobs.stop()
        self.frames.close()
        self.thumbnails.close()
        self.project.close()

    def masks_png(self, frame: int, height: int | None) -> bytes:
        """The objects of a frame as a picture of ids, see `ids_png`.

        Raises:
            InputError: there is no such frame.
        """
        self.project.check_frame(frame)
        key = frame, self._versions.get(frame, 0), shown_height(height, self.project.size_hw)
        found = self._masks.get(key)
        if found is None:
            found = ids_png(self.project.label_map(frame), key[2])
            self._masks.put(key, found)
        return found

    def _note(self, changes: Changes) -> None:
        """Masks of these frames are other ones from now on; called before anybody can read them."""
        for frame in {frame for _, frame in places(changes)}:
            self._versions[frame] = self._versions.get(frame, 0) + 1

    # ------------------------------------------------------------ masks out and in

    def export(self, name: str, objects: Collection[int] | None) -> Job:
        """Begin to write masks, see `exporting.export`; the event at the end says where the file is.

        Args:
            name: of the layout, or "overlay".
            objects: which; None for all, in an overlay for those that are shown.

        Raises:
            InputError: there is no such layout or object, or nothing to export.
            BusyError: a job is under way.
        """
        check_format(name, write=True)
        for object_id in objects or ():
            self.project.check_object(object_id)
        with self.project.store.lock:
            known = dict(self.project.index.objects)
        chosen = [i for i, it in known.items() if it.visible or name != OVERLAY] if objects is None else objects
        categories = {object_id: known[object_id].category for object_id in chosen if object_id in known}
        if not categories or not self.project.annotated_frames():
            raise InputError("there is nothing to export yet: no frame has a mask")

        def work(job: Job) -> dict[str, Json]:
            last = 0.0

            def on_frame(done: int, total: int) -> None:
                nonlocal last
                job.check()
                if time.monotonic() - last > 0.2 or done == total:  # not for every frame: some take a millisecond
                    last = time.monotonic()
                    job.advance(done, total)

            written = export(
                self.project,
                self.project.exports,
                name,
                categories=categories,
                colours={object_id: known[object_id].rgb for object_id in categories},
                audio_from=self.video if self.video.is_file() else None,
                on_frame=on_frame,
            )
            lost = f"; {'; '.join(written.lost)}" if written.lost else ""
            return {"message": f"{written.path.name} is ready{lost}", "download": f"{EXPORTS}{written.path.name}"}

        return self.jobs.start(f"export {'overlay' if name == OVERLAY else FORMATS[name].title}", work)

    def exported(self, name: str) -> Path:
        """The file of an export.

        Raises:
            InputError: there is none.
        """
        path = self.project.exports / name
        # What we write has such names; nothing else in the folder is anybody's business.
        if not re.fullmatch(r"[A-Za-z0-9_-]+\.(zip|mp4)", name) or path.is_symlink() or not path.is_file():
            raise InputError(f"there is no export {name!r}: export again")
        return path

    def adopt(self, path: Path, name: str, allowed: Callable[[Path], bool]) -> Change:
        """Take masks in from a folder or file, as if they had been found.

        Args:
            path: of it.
            name: of its layout.
            allowed: whether a file may be read: lists of files lead anywhere.

        Raises:
            InputError: they do not fit; nothing is changed.
        """
        check_format(name, write=False)
        if name == "alpha-video":
            for video in path.glob("*/*.mkv"):  # these are opened by FFmpeg, which is not confined
                check_video(video, allowed)
        with confined(allowed):
            imported = read_masks(self.project, path, name)
        categories: dict[int, tuple[str | None, str]] = {}
        # What objects are is known once all frames were seen, and asked for after that.
        frames = _confined(_masks(imported, categories), allowed)
        return self.editor.adopt(frames, categories, label=f"import {path.name}", model=f"import:{name}")

    def adopt_upload(self, upload: Upload, name: str) -> Change:
        """Take masks in from a file that was sent: a .zip of a folder, or a single file.

        Raises:
            InputError: they do not fit; nothing is changed.
        """
        check_format(name, write=False)
        folder = upload.path.with_name(f"{upload.path.name}.files")
        suffix = Path(upload.name).suffix.lower()
        if suffix != ".zip":
            if suffix not in {layout.suffix for layout in FORMATS.values()} - {None}:
                raise InputError(f"{upload.name} is neither a .zip of a folder nor a .json or .xml file")
            file = upload.path.resolve().rename(upload.path.with_name(f"{upload.path.name}{suffix}"))
            try:
                return self.adopt(file, name, lambda path: path.resolve() == file)
            finally:
                file.unlink(missing_ok=True)
        with unpacked(upload.path, folder) as root:
            allowed = Roots([root]).holds
            try:
                return self.adopt(root, name, allowed)
            except InputError:
                entries = list(root.iterdir())
                if len(entries) != 1 or not entries[0].is_dir():
                    raise
                return self.adopt(entries[0], name, allowed)  # a folder was packed, not what is in it


def _masks(imported: Imported, categories: dict[int, tuple[str | None, str]]) -> Iterator[_FrameOfMasks]:
    """Masks by frame and object; what each object is, is noted on the way."""
    is_named = imported.categories.names != OBJECT.names
    for frame, segmentation in imported.frames():
        masks_nhw = segmentation.masks_nhw().cpu().numpy()
        for segment in segmentation.segments:
            if is_named and segment.category is not None:
                categories[segment.track_id] = None, imported.categories[segment.category].name
        pairs = zip(segmentation.segments, masks_nhw, strict=True)
        yield frame, {segment.track_id: mask_hw for segment, mask_hw in pairs if mask_hw.any()}


def _confined(frames: Iterator[_FrameOfMasks], allowed: Callable[[Path], bool]) -> Iterator[_FrameOfMasks]:
    """The same, while this thread may read nothing else; only while one is being read."""
    while True:
        with confined(allowed):
            item = next(frames, None)
        if item is None:
            return
        yield item
