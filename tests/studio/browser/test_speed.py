"""What a person waits for, at 480p."""

import time

import pytest

from .conftest import write_clip
from .screen import Screen, middle

MOST_SECONDS = 0.7
LEAST_RATE = 12


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("large") / "large.mp4", size_hw=(480, 854))


@pytest.fixture
def large_screen(browser, shared_server, large):
    with Screen.on(browser, shared_server.address) as screen:
        (shared_server.videos / "large.mp4").write_bytes(large.path.read_bytes())
        screen.request("POST", "/api/open", {"path": str(shared_server.videos / "large.mp4")})
        screen.page.reload()
        screen.wait_for_frame(0)
        yield screen


@pytest.mark.slow
def test_a_click_shows_its_mask_quickly(large_screen, large, record_property):
    """The best of three: other work on the machine is not what is measured."""
    seconds = []
    for frame in (0, 7, 14):
        large_screen.page.locator("#frame-number").fill(f"{frame}")
        large_screen.page.locator("#frame-number").press("Enter")
        large_screen.wait_for_frame(frame)
        x, y = large_screen.place(*middle(large.truth[frame] == 1))
        large_screen.press("n")
        with large_screen.new_masks():
            begin = time.perf_counter()
            large_screen.page.mouse.click(x, y)
        seconds.append(time.perf_counter() - begin)
    record_property("click_to_mask", seconds)
    assert min(seconds) <= MOST_SECONDS, seconds


@pytest.mark.slow
def test_scrubbing_over_what_was_seen_is_smooth(large_screen, large, record_property):
    """One picture with its masks after the other, each drawn before the next is asked for."""
    body = {"frame": 0, "object": None, "stroke": [[400, 200]], "radius": 60, "erase": False}
    large_screen.request("POST", "/api/brush", body)
    for frame in range(1, len(large.truth)):
        large_screen.request("POST", "/api/brush", {**body, "frame": frame, "object": 1})
    walk = """async (frames) => {
      const picture = document.getElementById('picture');
      const shown = async (frame) => {
        while (picture.dataset.frame !== `${frame}` || picture.dataset.masks === '')
          await new Promise(requestAnimationFrame);
      };
      const step = (key) => document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
      const pass = async (key, way) => {
        const begin = performance.now();
        for (let frame = way > 0 ? 1 : frames - 2; frame >= 0 && frame < frames; frame += way) {
          step(key);
          await shown(frame);
        }
        return (frames - 1) / ((performance.now() - begin) / 1000);
      };
      await shown(0);
      return [await pass('.', 1), await pass(',', -1), await pass('.', 1)];
    }"""
    first, *again = large_screen.page.evaluate(walk, len(large.truth))
    record_property("frames_per_second", [first, *again])
    assert max(again) >= LEAST_RATE, (first, again)
