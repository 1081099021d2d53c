"""What keeps the studio to the person who started it, and to the folders that were named.

* Every request has to know the token, where there is one. Beyond loopback there always is one.
* On loopback, the ``Host`` has to be a loopback name: a page of somebody else's can make its own name mean 127.0.0.1
  (DNS rebinding), but not send another name.
* What changes something, and the WebSocket, has to come from our own page (``Origin``).
* Paths are resolved, symbolic links included, before they are compared with the folders that may be opened.
* Bodies of requests are limited. Videos are looked at before they are kept, by the decoders of video files alone: there
  are lists among what FFmpeg reads, whose entries are other files and addresses.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from maskstream.types import InputError, VideoError
from maskstream.video.decoding import Damage, decode_pictures, opened
from maskstream.video.images import image_size, is_image

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 2**20
"""Bytes of a request that is no upload: a stroke of 10 000 points fits twice."""
LARGEST_UPLOAD = 4 * 2**30
SHORTEST_TOKEN = 8
_LARGEST_PICTURE = 2**26
"""Pixels of a frame: 8192×8192."""
_CONTAINERS = (
    "3gp,3g2,apng,asf,av1,avi,dv,flv,gif,h264,hevc,ivf,m4v,matroska,mj2,mov,mp4,mpeg,mpegts,mpegvideo,mxf,nut,obu,ogg,"
    "vc1,webm,yuv4mpegpipe"
)
"""What FFmpeg calls files that hold a video themselves."""

_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}
_CACHE = {"cache-control": "no-store"}
"""Unless whoever answers says otherwise."""


# Who may ask.


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use the studio.

    Attributes:
        loopback: it is bound to this machine alone.
        token: that every request has to know, or None.
    """

    loopback: bool = True
    token: str | None = None

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise InputError(f"a token of {len(self.token)} characters is guessed: take {SHORTEST_TOKEN} or more")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise InputError("a token is letters, digits and signs of ASCII: it stands in an address")
        if self.token is None and not self.loopback:
            raise InputError("beyond this machine a token is required")

    @classmethod
    def for_host(cls, host: str, token: str | None) -> Access:
        """Of a server bound to this host; beyond loopback a token is made if none is given."""
        loopback = is_loopback(host)
        return cls(loopback, token if token or loopback else secrets.token_urlsafe(24))

    @property
    def cookie(self) -> str:
        """Name of the cookie. Cookies know no ports, and two studios on one machine are not to log each other out."""
        return f"maskstream-{sha256((self.token or '').encode()).hexdigest()[:12]}"

    def knows(self, token: str) -> bool:
        """Whether this is the token; takes the same time whatever of it is right."""
        return self.token is not None and secrets.compare_digest(token.encode(), self.token.encode())


def is_loopback(host: str) -> bool:
    """Whether a name or address, without a port, is this machine's own and nobody else's."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Guard:
    """Lets only those requests through to an application that may come, and says so in the answers.

    Args:
        app: the application.
        access: who may ask.
        uploads: paths whose bodies are read bit by bit by the application, which limits them.
    """

    def __init__(self, app: ASGIApp, access: Access, uploads: Sequence[str] = ()) -> None:
        self._app = app
        self._access = access
        self._uploads = frozenset(uploads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] not in ("http", "websocket"):  # start and end of the server
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        shown, given = self._token(scope, headers)
        refused = self._refusal(scope, headers, known=self._access.token is None or shown)
        if refused is not None:
            await _refuse(scope, send, *refused)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        if scope["path"] not in self._uploads:
            body = await _whole_body(receive, headers)
            if body is None:
                await _refuse(scope, send, 413, f"the request has more than {LARGEST_BODY} bytes")
                return
            receive = _replayed(body, receive)
        cookie = f"{self._access.cookie}={self._access.token}; HttpOnly; SameSite=Strict; Path=/" if given else None
        await self._app(scope, receive, _with_headers(send, cookie))

    def _token(self, scope: Scope, headers: dict[str, str]) -> tuple[bool, bool]:
        """Whether a request shows the token, and whether it does so in the address of the page."""
        if self._access.token is None:
            return False, False
        if scope["type"] == "http" and scope["path"] == "/" and scope["method"] == "GET":
            asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
            if any(map(self._access.knows, asked)):
                return True, True
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._access.knows(bearer.strip()):
            return True, False
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._access.cookie)
        except CookieError:
            return False, False
        return cookie is not None and self._access.knows(cookie.value), False

    def _refusal(self, scope: Scope, headers: dict[str, str], *, known: bool) -> tuple[int, str] | None:
        """Why a request is not let through, or None."""
        host = headers.get("host", "")
        if self._access.loopback and not is_loopback(_name(host)):
            return 403, "this studio answers to localhost alone: open the address that it printed"
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        origin = headers.get("origin")
        if changes and origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "this request comes from another page: only the studio's own may change anything"
        if not known:
            return 401, "the token is missing or wrong: open the address that the studio printed"
        return None


def _name(host: str) -> str:
    """A ``Host`` without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def _whole_body(receive: Receive, headers: dict[str, str]) -> bytes | None:
    """The body of a request, or None when it is too large."""
    announced = headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > LARGEST_BODY:
        return None
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)  # nobody is there to read the answer
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LARGEST_BODY:
            return None
    return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


def _with_headers(send: Send, cookie: str | None) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            told = {name.lower() for name, _ in message.get("headers", ())}
            added = {**_HEADERS, **_CACHE} | ({} if cookie is None else {"set-cookie": cookie})
            message["headers"] = [
                *message.get("headers", ()),
                *((name.encode(), value.encode()) for name, value in added.items() if name.encode() not in told),
            ]
        await send(message)

    return send_with_headers


async def _refuse(scope: Scope, send: Send, status: int, reason: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: answered as 403
        return
    from starlette.responses import JSONResponse

    async def nothing() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    # Whoever is refused may have more to send: it is not read.
    answer = JSONResponse({"error": reason}, status, headers={"connection": "close"})
    await answer(scope, nothing, _with_headers(send, None))


# What may be opened.


class Roots:
    """The folders that may be looked into. Those within others are left out.

    Args:
        folders: that exist.

    Raises:
        InputError: one does not.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise InputError(f"there is no folder {folder}")
        resolved = list(dict.fromkeys(folder.resolve() for folder in folders))
        self.folders = tuple(one for one in resolved if not any(above in resolved for above in one.parents))

    def holds(self, path: Path) -> bool:
        """Whether a path lies in one of the folders, wherever its symbolic links lead."""
        try:
            resolved = path.resolve()
        except (OSError, RuntimeError, ValueError):  # a loop of links, a name that is too long
            return False
        return any(resolved.is_relative_to(folder) for folder in self.folders)

    def find(self, text: str) -> Path:
        """What is at this path.

        Args:
            text: absolute, or relative to the first folder.

        Returns:
            The resolved path.

        Raises:
            InputError: there is nothing, or it is outside; the message does not say which.
        """
        unknown = InputError(f"there is no {text!r} in the folders that this studio may open (--root)")
        if not self.folders or "\0" in text:
            raise unknown
        try:
            path = (self.folders[0] / text).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            raise unknown from None
        if not self.holds(path):
            raise unknown
        return path


class _Confinement(threading.local):
    """What the current thread may open; None: everything."""

    allowed: Callable[[Path], bool] | None = None


_confinement = _Confinement()
_CODE = frozenset({".py", ".pyc", ".so", ".pyd"})


@cache
def _watch_files() -> None:
    """Look at every file that Python opens in a thread that is confined. Cannot be undone, and is done once."""
    sys.addaudithook(_check_open)


def _check_open(event: str, arguments: tuple[object, ...]) -> None:
    allowed = _confinement.allowed
    if event != "open" or allowed is None or not isinstance(arguments[0], str | bytes | PathLike):
        return
    path = Path(os.fsdecode(arguments[0]))
    if path.suffix in _CODE:  # a module that is first needed now
        return
    _confinement.allowed = None  # looking at the path may open something itself
    try:
        if not allowed(path):
            raise InputError(f"{path.name} is outside the folders that this studio may open: it is not read")
    finally:
        _confinement.allowed = allowed


@contextmanager
def confined(allowed: Callable[[Path], bool]) -> Iterator[None]:
    """Within the block, this thread opens no other files, whatever lists and links in what it reads say.

    Args:
        allowed: whether a file may be opened.
    """
    _watch_files()
    before, _confinement.allowed = _confinement.allowed, allowed
    try:
        yield
    finally:
        _confinement.allowed = before


def check_video(path: Path, allowed: Callable[[Path], bool]) -> None:
    """See that a path is a video file, or a folder of pictures, that leads to no other file.

    Args:
        path: of the file or folder.
        allowed: whether a file may be read.

    Raises:
        InputError: it, or a picture of it, is somewhere else, or its frames are too large.
        VideoError: it is no video.
    """
    if path.is_dir():
        pictures = [picture for picture in path.iterdir() if is_image(picture)]
        if not pictures:
            raise VideoError(f"{path.name} is no video: it is a folder without pictures")
        for picture in pictures:
            if not allowed(picture):
                raise InputError(f"{picture.name} in {path.name} is a link to somewhere else: it is not opened")
            _check_size(path.name, *image_size(picture))
        return
    if not allowed(path) or not path.is_file():
        raise InputError(f"{path.name} is a link to somewhere else, or no file: it is not opened")
    if is_image(path):
        _check_size(path.name, *image_size(path))
        return
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    with opened(f"file:{path}", name=path.name, options=options) as (container, stream):
        _check_size(path.name, stream.codec_context.height, stream.codec_context.width)
        first = next(decode_pictures(container, stream, Damage()), None)
        if first is None:
            raise VideoError(f"{path.name} has a video stream, but not one frame of it can be decoded")
        _check_size(path.name, first.height, first.width)


def _check_size(name: str, height: int, width: int) -> None:
    if height * width > _LARGEST_PICTURE:
        raise InputError(f"the frames of {name} are {height}×{width} pixels: at most {_LARGEST_PICTURE} are taken")
