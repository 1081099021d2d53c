"""The page as tests use it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

MARGIN = 10
"""Pixels that the page leaves around the picture."""


class Screen:
    """One tab."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self._note(message.type, message.text))

    def _note(self, kind: str, text: str) -> None:
        if kind == "error" and "Failed to load resource" not in text and "WebSocket" not in text:
            self.errors.append(text)  # the browser itself says so of what is refused, and of a server that is gone

    @classmethod
    @contextmanager
    def on(cls, browser: Browser, address: str) -> Iterator[Screen]:
        """A tab of a person with nothing kept; at the end nothing may have gone wrong in its scripts."""
        context = browser.new_context(viewport={"width": 1280, "height": 720}, accept_downloads=True)
        screen = cls(context.new_page())
        screen.page.goto(address)
        try:
            yield screen
            assert screen.errors == []
        finally:
            context.close()

    # ------------------------------------------------------------------ what is shown

    @property
    def picture(self) -> Locator:
        return self.page.locator("#picture")

    def wait_for_frame(self, frame: int) -> None:
        self.page.locator(f"#picture[data-frame='{frame}']").wait_for(timeout=20_000)

    def wait_for(self, script: str, argument: Any = None) -> None:
        """Until this is true in the page."""
        self.page.wait_for_function(script, arg=argument, timeout=20_000)

    def wait_for_objects(self, count: int) -> None:
        """Until the list has as many."""
        self.wait_for("n => document.querySelectorAll('#object-list li').length === n", count)

    @contextmanager
    def new_masks(self) -> Iterator[None]:
        """Until other masks than before are on the picture."""
        before = self.picture.get_attribute("data-masks")
        yield
        self.wait_for("before => document.getElementById('picture').dataset.masks !== before", before)

    def colour_at(self, x: float, y: float) -> NDArray[np.uint8]:
        """What is drawn there, in pixels of the video; the pointer is taken away first, and marks are not drawn."""
        left, top = self.place(x, y)
        box = self.picture.bounding_box()
        assert box is not None
        found = self.page.evaluate(
            "([x, y]) => [...document.getElementById('picture').getContext('2d').getImageData(x, y, 1, 1).data]",
            [round(left - box["x"]), round(top - box["y"])],
        )
        return np.array(found[:3], np.uint8)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the video is on the page."""
        video = self.state()["video"]
        box = self.picture.bounding_box()
        assert box is not None
        across, down = box["width"] - 2 * MARGIN, box["height"] - 2 * MARGIN
        scale = min(across / video["width"], down / video["height"])
        left = box["x"] + box["width"] / 2 + (x + 0.5 - video["width"] / 2) * scale
        top = box["y"] + box["height"] / 2 + (y + 0.5 - video["height"] / 2) * scale
        return left, top

    # ----------------------------------------------------------------- what is done

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def click(self, x: float, y: float, *, button: Any = "left", modifiers: tuple[str, ...] = ()) -> None:
        for key in modifiers:
            self.page.keyboard.down(key)
        self.page.mouse.click(*self.place(x, y), button=button)
        for key in modifiers:
            self.page.keyboard.up(key)

    def drag(self, *points: tuple[float, float]) -> None:
        self.page.mouse.move(*self.place(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.place(*point), steps=4)
        self.page.mouse.up()

    def button(self, name: str) -> Locator:
        return self.page.locator(f"button[data-command='{name}']:visible")

    def click_on_object(self, truth: NDArray[np.int32], number: int) -> None:
        """Make a new object by a click into the middle of a true one."""
        before = self.page.locator("#object-list li").count()
        self.press("n")
        with self.new_masks():
            self.click(*middle(truth == number))
        self.wait_for_objects(before + 1)

    def run_job(self, start: Callable[[], None]) -> None:
        """Start a job, and wait for its end and for the state after it."""
        start()
        self.wait_for("() => !document.getElementById('job').hidden")
        self.page.locator("#job").wait_for(state="hidden", timeout=120_000)

    # ------------------------------------------------------------- what the server says

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the server, past the page."""
        response = self.page.request.fetch(
            path if path.startswith("http") else f"{self.origin}{path}", method=method, data=body
        )
        assert response.ok, response.text()
        return response.json()

    @property
    def origin(self) -> str:
        return str(self.page.evaluate("() => location.origin"))

    def state(self) -> dict[str, Any]:
        return dict(self.request("GET", "/api/state"))

    def wait_for_state(self, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask until it fits."""
        end = time.monotonic() + 30
        while not fits(state := self.state()):
            assert time.monotonic() < end, state
            self.page.wait_for_timeout(50)
        return state

    def masks(self, frame: int) -> NDArray[np.int32]:
        """The objects of a frame, as the page gets them."""
        response = self.page.request.get(f"{self.origin}/api/masks/{frame}.png")
        pixels = np.asarray(Image.open(BytesIO(response.body())).convert("RGB"), np.int32)
        return pixels @ np.array([1, 256, 65536], np.int32)


def middle(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """The pixel of a mask that is furthest from what it is not, as x and y."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(x - 1), float(y - 1)
