"""The studio: what is open in it, what may be opened, and who is told what happens."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from maskstream.conversion import FORMATS
from maskstream.engine.sources import VIDEO_SUFFIXES
from maskstream.types import InputError, OutputError
from maskstream.video.images import is_image, natural_key

from .events import Broadcast, Event
from .exporting import OVERLAY, file_name
from .history import Store
from .models import ModelNames, Models
from .opened import Opened
from .project import DATABASE, Change, Project, noted_video
from .records import Json
from .security import LARGEST_UPLOAD, Roots, check_video
from .uploads import Upload, remove_leftovers

_MOST_ENTRIES = 2000
"""Of a folder that are listed."""
_MOST_LOOKED_AT = 200
"""Files of a folder that are looked at to say what it is."""
_FORGOTTEN = 3600.0
"""Seconds after which an upload that has not grown is nobody's any more."""
_PATIENCE = 30.0
"""Seconds that a project is kept open for those who still use it."""
_NOTHING: dict[str, Json] = {
    "project": None,
    "video": None,
    "revision": 0,
    "objects": [],
    "doubtful": [],
    "undo": None,
    "redo": None,
}


class NothingOpenError(InputError):
    """Something is asked of a video, and none is open."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a studio was started.

    Attributes:
        roots: folders that may be looked into.
        projects: the folder where projects are made; may be looked into, too.
        models: names of what it works with.
        largest_upload: bytes.
    """

    roots: tuple[Path, ...]
    projects: Path
    models: ModelNames = field(default_factory=ModelNames)
    largest_upload: int = LARGEST_UPLOAD


class Studio:
    """At most one open project, for any number of tabs and threads.

    Raises:
        InputError: a root is no folder.
        OutputError: the folder of projects cannot be made.
    """

    def __init__(self, settings: Settings) -> None:
        try:
            settings.projects.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{settings.projects} cannot be made: {error.strerror or error}") from error
        remove_leftovers(settings.projects, older_than=_FORGOTTEN)
        self.settings = settings
        self.roots = Roots((*settings.roots, settings.projects))
        self.projects = settings.projects.resolve()
        self.models = Models(settings.models)
        self.events = Broadcast()
        self._opening = threading.Lock()
        self._changed = threading.Condition()
        self._opened: Opened | None = None

    # ------------------------------------------------------------------- what is open

    @contextmanager
    def using(self) -> Iterator[Opened]:
        """What is open; it is not closed before the end of the block.

        Raises:
            NothingOpenError: nothing is.
        """
        with self._changed:
            opened = self._opened
            if opened is None:
                raise NothingOpenError("no video is open: open one first")
            opened.users += 1
        try:
            yield opened
        finally:
            with self._changed:
                opened.users -= 1
                self._changed.notify_all()

    def state(self) -> dict[str, Json]:
        """Everything a tab needs to know, as plain data."""
        names = self.settings.models
        can = {"text": self.models.reads_text, "find": True}
        rest = {
            "can": {**can, "prompter": names.prompter, "propagator": names.propagator, "segmenter": names.segmenter},
            "formats": formats(),
        }
        try:
            with self.using() as opened:
                job = opened.jobs.current
                return {
                    **opened.project.summary(),
                    "job": None if job is None else _with_text_id(job.to_plain()),
                    **rest,
                }
        except NothingOpenError:
            return {**_NOTHING, "job": None, **rest}

    def tell(self, change: Change) -> None:
        """Tell every tab of an action."""
        if change.frames:
            self.events.publish({"type": "masks", "revision": change.revision, "frames": list(change.frames)})
        self.events.publish({"type": "state", "revision": change.revision})

    def _tell_of_job(self, event: Event) -> None:
        self.events.publish(_with_text_id(event) if "id" in event else event)

    # ------------------------------------------------------------------------ opening

    def open(self, path: Path, *, trusted: bool = False) -> None:
        """Open a video, a folder of pictures or a project. What was open is closed, unless this cannot be opened.

        A video is opened in its project, made if there is none.

        Args:
            path: of it.
            trusted: whoever runs the studio named it, so it may lead outside the roots.

        Raises:
            InputError: it cannot be opened, or leads outside.
            VideoError: it is no video.
        """
        with self._opening:
            path = path.resolve()
            folder = path if Project.is_in(path) else self._project_of(path)
            if self._opened is not None and self._opened.project.folder == folder:
                return
            if Project.is_in(folder):
                if not trusted:
                    self._check_links(folder)
                self._check(recorded_video(folder), folder, trusted=trusted)
                project = Project.open(folder)
            else:
                self._check(path, folder, trusted=trusted)
                project = Project.create(folder, path)
            self._take(project)

    def open_upload(self, upload: Upload) -> None:
        """Make a project of a video that was sent, and open it. What cannot be opened is removed.

        Raises:
            InputError: it cannot be opened.
            VideoError: it is no video.
        """
        check_video(upload.path, upload.path.samefile)
        with self._opening:
            folder = self._free_folder(file_name(upload.name))
            suffix = Path(upload.name).suffix.lower()
            folder.mkdir()
            video = folder / f"video{suffix if suffix in VIDEO_SUFFIXES else '.mp4'}"
            try:
                upload.path.rename(video)
                self._take(Project.create(folder, video))
            except OSError as error:
                raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
            finally:
                if self._opened is None or self._opened.project.folder != folder:
                    shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Stop the job and close what is open."""
        with self._opening:
            self._replace(None)

    def _take(self, project: Project) -> None:
        video = recorded_video(project.folder)
        self._replace(Opened(project, video, self.models, self._tell_of_job))
        self.events.publish({"type": "state", "revision": project.revision})

    def _replace(self, opened: Opened | None) -> None:
        with self._changed:
            before, self._opened = self._opened, opened
        if before is None:
            return
        before.jobs.stop()
        with self._changed:
            self._changed.wait_for(lambda: before.users == 0, _PATIENCE)
        before.close()

    def _check(self, video: Path, folder: Path, *, trusted: bool) -> None:
        def allowed(path: Path) -> bool:
            return trusted or self.roots.holds(path) or path.resolve().is_relative_to(folder)

        check_video(video, allowed)

    def _check_links(self, folder: Path) -> None:
        """See that a project lies where it seems to."""
        for path in folder.iterdir():
            if path.is_symlink() and not self.roots.holds(path):
                raise InputError(f"{path.name} in {folder.name} is a link to somewhere else: it is not opened")

    def _project_of(self, video: Path) -> Path:
        """The project of a video: the one that there is, or a new folder."""
        name = file_name(video.name)
        for folder in self._folders(name):
            if not folder.exists():
                return folder
            with suppress(InputError):  # another folder, or a project that was never finished or is damaged
                if recorded_video(folder) == video:
                    return folder
        raise AssertionError  # there is always another number

    def _free_folder(self, name: str) -> Path:
        return next(folder for folder in self._folders(name) if not folder.exists())

    def _folders(self, name: str) -> Iterator[Path]:
        yield self.projects / name
        number = 1
        while True:
            number += 1
            yield self.projects / f"{name}-{number}"

    # ----------------------------------------------------------------------- browsing

    def browse(self, text: str) -> dict[str, Json]:
        """What can be opened in a folder, or the roots.

        Args:
            text: path of the folder; "" for the roots, or for the only one.

        Raises:
            InputError: there is no such folder in the roots.
        """
        if not text and len(self.roots.folders) > 1:
            entries = [{"name": str(root), "path": str(root), "kind": "folder"} for root in self.roots.folders]
            return {"path": "", "parent": None, "entries": entries}
        folder = self.roots.find(text or ".")
        if not folder.is_dir():
            raise InputError(f"{text!r} is no folder")
        try:
            paths = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=natural_key)
        except OSError as error:
            raise InputError(f"{text!r} cannot be read: {error.strerror or error}") from error
        kinds = ((path, self._kind(path)) for path in paths)
        shown = islice(((path, kind) for path, kind in kinds if kind is not None), _MOST_ENTRIES)
        entries = [{"name": self._shown_name(path), "path": str(path), "kind": kind} for path, kind in shown]
        return {"path": str(folder), "parent": self._parent(folder), "entries": entries}

    def _shown_name(self, path: Path) -> str:
        """The folder of projects is marked, not left out: videos that were uploaded are nowhere else."""
        return f"{path.name} (projects)" if path == self.projects else path.name

    def _parent(self, folder: Path) -> str | None:
        if folder not in self.roots.folders:
            return str(folder.parent)
        return "" if len(self.roots.folders) > 1 else None

    def _kind(self, path: Path) -> str | None:
        """What can be opened there, or None."""
        try:
            if path.is_symlink() and not self.roots.holds(path):
                return None
            if path.is_file():
                return "video" if path.suffix.lower() in VIDEO_SUFFIXES else None
            if not path.is_dir():
                return None
            if (path / DATABASE).is_file():
                return "project"
            return "images" if any(map(is_image, islice(path.iterdir(), _MOST_LOOKED_AT))) else "folder"
        except OSError:  # a folder that may not be read
            return None


def recorded_video(folder: Path) -> Path:
    """The video that a project was made with, before the project is opened.

    Raises:
        InputError: there is none, or no project, or it is damaged.
    """
    if not Project.is_in(folder):
        raise InputError(f"{folder} is not a project: it has no {DATABASE}")
    store = Store(folder / DATABASE)
    try:
        path: str = noted_video(folder, store)["path"]
    finally:
        store.close()
    return (folder / path).resolve()


def formats() -> list[dict[str, Json]]:
    """The layouts that masks are written to and read from."""
    overlay = {"name": OVERLAY, "title": "overlay video", "writes": True, "reads": False}
    listed = [
        {"name": name, "title": layout.title, "writes": layout.write is not None, "reads": True}
        for name, layout in FORMATS.items()
    ]
    return [overlay, *listed]


def _with_text_id(event: Event) -> dict[str, Json]:
    """Numbers of jobs are names for those who listen."""
    return {**event, "id": str(event["id"])}
