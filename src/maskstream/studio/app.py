"""The studio on the network: what a browser asks for, who answers it, and how errors are said.

Everything that is asked is checked by `requests` and `security`, and done elsewhere.
"""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Request, WebSocket
from fastapi import Path as InPath
from fastapi import Query as InQuery
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from maskstream.types import InputError, MaskstreamError

from .jobs import BusyError, Job
from .pictures import THUMBNAIL_HEIGHT
from .project import Change
from .records import Json
from .requests import (
    BrushAsked,
    ClearAsked,
    DescribeAsked,
    ExportAsked,
    FindAsked,
    ImportAsked,
    MergeAsked,
    OpenAsked,
    PromptsAsked,
    PropagateAsked,
    SplitAsked,
)
from .security import Access, Guard
from .studio import NothingOpenError, Studio
from .uploads import TooLargeError, received

STATIC = Path(__file__).parent / "static"
UPLOADS = ("/api/upload", "/api/import-file")
_FOR_EVER = {"cache-control": "private, max-age=31536000, immutable"}
_LARGEST = 2**31 - 1

_Number = Annotated[int, InPath(ge=0, le=_LARGEST)]
_Height = Annotated[int | None, InQuery(ge=1, le=_LARGEST)]
_Text = Annotated[str, InQuery(max_length=4096)]


def create_app(studio: Studio, access: Access | None = None) -> FastAPI:
    """The application.

    Args:
        studio: that it shows; closed when the server ends.
        access: who may ask; this machine alone if None.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await run_in_threadpool(studio.close)

    # The pages that describe an interface load their scripts from elsewhere.
    app = FastAPI(title="maskstream studio", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(Guard, access=access or Access(), uploads=UPLOADS)
    _say_errors(app)
    _serve_page(app)
    _serve_pictures(app, studio)
    _take_edits(app, studio)
    _run_jobs(app, studio)
    _open_things(app, studio)
    _tell_events(app, studio)
    return app


def _say_errors(app: FastAPI) -> None:
    """Every error is one line of JSON."""

    @app.exception_handler(MaskstreamError)
    async def mendable(_: Request, error: MaskstreamError) -> Response:
        statuses = {BusyError: 409, NothingOpenError: 409, TooLargeError: 413}
        return _error(next((status for kind, status in statuses.items() if isinstance(error, kind)), 400), str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return _error(422, _first(error.errors()))

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        return _error(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        return _error(500, "something went wrong in the studio: its terminal says what")


def _error(status: int, reason: str) -> Response:
    return JSONResponse({"error": " ".join(reason.split())}, status)


def _first(errors: Sequence[Any]) -> str:
    """The first thing that is wrong with a request."""
    if not errors:
        return "the request is not understood"
    where = ".".join(str(part) for part in errors[0]["loc"] if part not in ("body", "query", "path"))
    return f"{where or 'the request'}: {errors[0]['msg']}"


def _serve_page(app: FastAPI) -> None:
    mimetypes.add_type("text/javascript", ".js")  # some systems say otherwise, and browsers then refuse it

    class Static(StaticFiles):
        async def get_response(self, path: str, scope: Any) -> Response:
            response = await super().get_response(path, scope)
            response.headers["cache-control"] = "no-cache"  # asks again, and is told that nothing has changed
            return response

    @app.get("/")
    async def page() -> Response:
        return FileResponse(STATIC / "index.html")

    app.mount("/static", Static(directory=STATIC))


def _serve_pictures(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/state")
    def state() -> dict[str, Json]:
        return studio.state()

    @app.get("/api/frames/{frame}.jpg")
    def frame_picture(frame: _Number, height: _Height = None, v: _Text = "") -> Response:
        with studio.using() as opened:
            kept = _FOR_EVER if v == opened.project.key else None
            return Response(_there(opened.frames.jpeg, frame, height), media_type="image/jpeg", headers=kept)

    @app.get("/api/thumbnails/{frame}.jpg")
    def thumbnail(frame: _Number, v: _Text = "") -> Response:
        with studio.using() as opened:
            kept = _FOR_EVER if v == opened.project.key else None
            picture = _there(opened.thumbnails.jpeg, frame, THUMBNAIL_HEIGHT)
            return Response(picture, media_type="image/jpeg", headers=kept)

    @app.get("/api/masks/{frame}.png")
    def masks(frame: _Number, height: _Height = None) -> Response:
        with studio.using() as opened:
            return Response(_there(opened.masks_png, frame, height), media_type="image/png")

    @app.get("/api/given/{frame}")
    def given(frame: _Number) -> list[dict[str, Json]]:
        with studio.using() as opened:
            return opened.project.prompts(frame)


def _there(make: Any, frame: int, height: int | None) -> bytes:
    """A picture.

    Raises:
        HTTPException: 404 where there is none.
    """
    try:
        picture: bytes = make(frame, height)
    except MaskstreamError as error:
        raise HTTPException(404, str(error)) from None
    return picture


def _take_edits(app: FastAPI, studio: Studio) -> None:
    def changed(change: Change) -> dict[str, Json]:
        studio.tell(change)
        return {
            "revision": change.revision,
            "frames": list(change.frames),
            "object": change.object_id,
            "label": change.label,
        }

    @app.post("/api/prompt")
    def prompt(asked: PromptsAsked) -> dict[str, Json]:
        with studio.using() as opened:
            prompts = [one.model_dump() for one in asked.prompts]
            return changed(opened.editor.prompt(asked.frame, asked.object, prompts))

    @app.post("/api/brush")
    def brush(asked: BrushAsked) -> dict[str, Json]:
        with studio.using() as opened:
            return changed(
                opened.editor.brush(asked.frame, asked.object, asked.stroke, asked.radius, erase=asked.erase)
            )

    @app.post("/api/clear")
    def clear(asked: ClearAsked) -> dict[str, Json]:
        with studio.using() as opened:
            return changed(opened.editor.clear(asked.frame, asked.object))

    @app.patch("/api/objects/{object_id}")
    def describe(object_id: _Number, asked: DescribeAsked) -> dict[str, Json]:
        with studio.using() as opened:
            return changed(opened.editor.describe(object_id, **asked.model_dump()))

    @app.delete("/api/objects/{object_id}")
    def delete(object_id: _Number) -> dict[str, Json]:
        with studio.using() as opened:
            return changed(opened.editor.delete(object_id))

    @app.post("/api/merge")
    def merge(asked: MergeAsked) -> dict[str, Json]:
        with studio.using() as opened:
            return changed(opened.editor.merge(asked.into, asked.others))

    @app.post("/api/split")
    def split(asked: SplitAsked) -> dict[str, Json]:
        with studio.using() as opened:
            return changed(opened.editor.split(asked.object, asked.frame, asked.how))

    @app.post("/api/undo")
    def undo() -> dict[str, Json]:
        with studio.using() as opened:
            return changed(opened.editor.undo())

    @app.post("/api/redo")
    def redo() -> dict[str, Json]:
        with studio.using() as opened:
            return changed(opened.editor.redo())

    @app.post("/api/import")
    def adopt(asked: ImportAsked) -> dict[str, Json]:
        with studio.using() as opened:
            return changed(opened.adopt(studio.roots.find(asked.path), asked.format, studio.roots.holds))

    @app.post("/api/import-file")
    async def adopt_file(request: Request) -> dict[str, Json]:
        with studio.using() as opened:
            limit = studio.settings.largest_upload
            async with received(request, opened.project.folder, limit=limit) as upload:
                name = upload.fields.get("format", "")
                return changed(await run_in_threadpool(opened.adopt_upload, upload, name))


def _run_jobs(app: FastAPI, studio: Studio) -> None:
    def begun(job: Job) -> dict[str, Json]:
        return {"job": str(job.id)}

    @app.post("/api/propagate", status_code=202)
    def propagate(asked: PropagateAsked) -> dict[str, Json]:
        with studio.using() as opened:
            return begun(opened.following.propagate(asked.objects, asked.first, asked.last, asked.direction))

    @app.post("/api/find", status_code=202)
    def find(asked: FindAsked) -> dict[str, Json]:
        with studio.using() as opened:
            return begun(opened.following.find(asked.first, asked.last, asked.text))

    @app.post("/api/export", status_code=202)
    def export(asked: ExportAsked) -> dict[str, Json]:
        with studio.using() as opened:
            return begun(opened.export(asked.format, asked.objects))

    @app.get("/api/exports/{name}")
    def exported(name: str) -> Response:
        with studio.using() as opened:
            try:
                path = opened.exported(name)
            except InputError as error:
                raise HTTPException(404, str(error)) from None
            return FileResponse(path, filename=name)

    @app.post("/api/stop")
    def stop() -> dict[str, Json]:
        with studio.using() as opened:
            opened.jobs.stop(wait=False)
            return {}


def _open_things(app: FastAPI, studio: Studio) -> None:
    @app.get("/api/browse")
    def browse(path: _Text = "") -> dict[str, Json]:
        return studio.browse(path)

    @app.post("/api/open")
    def open_path(asked: OpenAsked) -> dict[str, Json]:
        studio.open(studio.roots.find(asked.path))
        return studio.state()

    @app.post("/api/upload")
    async def upload(request: Request) -> dict[str, Json]:
        async with received(request, studio.projects, limit=studio.settings.largest_upload) as sent:
            await run_in_threadpool(studio.open_upload, sent)
        return studio.state()


def _tell_events(app: FastAPI, studio: Studio) -> None:
    @app.websocket("/api/events")
    async def events(socket: WebSocket) -> None:
        try:
            with studio.events.tab() as tab:
                await socket.accept()

                async def send() -> None:
                    while True:
                        for event in await tab.take():
                            await socket.send_json(event)

                sending = asyncio.create_task(send())
                try:
                    while (await socket.receive())["type"] != "websocket.disconnect":
                        pass  # tabs have nothing to say here
                finally:
                    sending.cancel()
                    with suppress(asyncio.CancelledError, Exception):  # the tab is gone: nobody is to be told
                        await sending
        except InputError as error:
            await socket.close(1013, str(error))
