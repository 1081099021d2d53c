"""``maskstream studio``: prompt, watch, correct and export in the browser."""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from .console import on_interrupt
from .options import Debug, Prompter, Propagator, Segmenter

_FILES, _WHO = "Which files", "Who may use it"
_EVERY_ADDRESS = ("", "0.0.0.0", "::")


def studio(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="A video, a folder of images or a project; without it the page asks.",
            metavar="[VIDEO|PROJECT]",
            show_default=False,
        ),
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder to open things from; again for more.  [default: the current one]",
            show_default=False,
            rich_help_panel=_FILES,
        ),
    ] = None,
    project: Annotated[
        Path, typer.Option(help="Where projects are kept, a folder for each video.", rich_help_panel=_FILES)
    ] = Path("studio"),
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 for other machines, too.", rich_help_panel=_WHO)
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen at; 0 for any that is free.", rich_help_panel=_WHO)
    ] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="MASKSTREAM_TOKEN",
            help="Secret that the address carries.  [default: made, if other machines may use it]",
            show_default=False,
            show_envvar=True,
            rich_help_panel=_WHO,
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.", rich_help_panel=_WHO)
    ] = True,
    segmenter: Segmenter = "motion-small",
    propagator: Propagator = "flow+propagate-small",
    prompter: Prompter = "click-small",
    debug: Debug = False,
) -> None:
    """Annotate a video in the browser: click on things, see them followed, correct, and take the masks away.

    Everything is saved at once, in the folder of a project: stop at any moment, and the same command again goes on.
    """
    del debug  # read by the entry point, which decides how errors are shown
    from maskstream.types import InputError

    try:
        import uvicorn
        import websockets  # noqa: F401 - uvicorn answers no WebSocket without it

        from maskstream.studio.app import create_app
    except ModuleNotFoundError as error:
        raise InputError(f"the studio needs {error.name}: pip install 'maskstream[studio]'") from error
    from maskstream.studio.models import ModelNames
    from maskstream.studio.security import Access
    from maskstream.studio.studio import Settings, Studio

    access = Access.for_host(host, token)
    with _listening(host, port) as listener:
        opened = Studio(Settings(tuple(root or [Path()]), project, ModelNames(segmenter, propagator, prompter)))
        try:
            opened.models.load_all()  # a name that is wrong is better said now than after the first click
            if source is not None:
                opened.open(source, trusted=True)
            config = uvicorn.Config(
                create_app(opened, access),
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws_max_size=2**16,
                timeout_graceful_shutdown=3,
            )
            address = address_of(host, listener.getsockname()[1], access.token)
            typer.echo(f"the studio is at {address}\nstop it with Ctrl-C")
            if browser:
                _show(address)
            server = uvicorn.Server(config)
            # Requests that are cut off by the end are no errors that anybody has to read of.
            logging.getLogger("uvicorn.error").addFilter(lambda _: not server.should_exit)
            with on_interrupt(": everything is saved; the same command again goes on"):
                server.run(sockets=[listener])
        finally:
            opened.close()


def address_of(host: str, port: int, token: str | None) -> str:
    """What to open in a browser."""
    name = socket.gethostname() if host in _EVERY_ADDRESS else (f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}/" + ("" if token is None else f"?token={quote(token, safe='')}")


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens, so that nobody else can take the port while models are loaded.

    Raises:
        InputError: the port is taken, or the host is not this machine.
    """
    from maskstream.types import InputError

    try:
        places = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, place = min(places, key=lambda place: place[0] != socket.AF_INET)
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"cannot listen at {host}: {error.strerror or error}") from error
    try:
        if sys.platform != "win32":  # there it lets two servers have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot listen at {host}, port {port}: {error.strerror or error}; name another --port, 0 for any"
        ) from error
    return listener


def _show(address: str) -> None:
    """Open a browser with windows; one in the terminal would take it away from the server."""
    if sys.platform not in ("win32", "darwin") and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY"))):
        return
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(address,), name="studio-browser", daemon=True).start()
