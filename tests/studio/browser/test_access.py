"""For everybody: with the keyboard alone, with a screen reader, on a small screen."""

import shutil

import numpy as np
import pytest

from maskstream.metrics.jf import region_similarity

from .screen import middle
from .test_flow import exported

CONTROLS = {
    "button", "checkbox", "radio", "slider", "spinbutton", "textbox", "combobox", "link", "application", "ColorWell",
    "switch", "listbox", "menuitem", "tab",
}  # fmt: skip


def names_of_controls(screen):
    """Role and accessible name of everything that can be used, as a screen reader is told."""
    session = screen.page.context.new_cdp_session(screen.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    shown = [node for node in nodes if not node["ignored"] and node["role"]["value"] in CONTROLS]
    return [(node["role"]["value"], node.get("name", {}).get("value", "").strip()) for node in shown]


def move_crosshair(screen, x, y):
    """With arrow keys, from wherever it is: steps first, then pixels."""
    video = screen.state()["video"]
    step = round(video["height"] / 48)
    for _ in range(video["width"] // step + 1):
        screen.press("ArrowLeft")
    for _ in range(video["height"] // step + 1):
        screen.press("ArrowUp")
    for key, count in (("ArrowRight", int(x)), ("ArrowDown", int(y))):
        screen.press(*[key] * (count // step), *[f"Shift+{key}"] * (count % step))


@pytest.mark.slow
def test_the_keyboard_alone_suffices(screen, clip, shared_server, tmp_path):
    """From opening a video to an exported mask."""
    shutil.copy(clip.path, shared_server.videos / "keys.mp4")
    screen.press("Shift+O")
    path = screen.page.get_by_role("textbox", name="Path of a video")
    for _ in range(60):
        if path.evaluate("input => input === document.activeElement"):
            break
        screen.press("Tab")
    screen.page.keyboard.type(str(shared_server.videos / "keys.mp4"))
    screen.press("Enter")
    screen.wait_for("() => document.getElementById('video-name').textContent === 'keys'")
    screen.wait_for_frame(0)
    screen.press("c")
    move_crosshair(screen, *middle(clip.truth[0] == 1))
    with screen.new_masks():
        screen.press("Enter")
    fish = screen.masks(0) == 1
    assert region_similarity(fish, clip.truth[0] == 1) > 0.6
    with screen.new_masks():
        screen.press("Shift+Enter" if fish[10, 10] else "Enter", "d", "Enter", *["ArrowRight"] * 3, "Enter")
    screen.run_job(lambda: screen.press("f"))
    screen.press(".", ".", ".")
    screen.wait_for_frame(3)
    assert (screen.masks(3) == 1).any()
    screen.press("Shift+E")
    with screen.page.expect_download() as download:
        screen.press("Enter")
    download.value.save_as(tmp_path / "masks.zip")
    masks = exported(tmp_path / "masks.zip")
    assert len(masks) == len(clip.truth)
    assert np.mean([region_similarity(m == 1, t == 1) for m, t in zip(masks, clip.truth, strict=True)]) > 0.5


def test_a_box_and_a_stroke_are_drawn_with_keys(screen):
    screen.press("c", "d")
    with screen.new_masks():
        screen.press("Enter", *["ArrowRight"] * 5, "Enter")
    assert (screen.masks(0) == 1)[120, 214:239].all()
    screen.press("b", "Enter", *["ArrowLeft"] * 4, "Escape", "Enter", *["ArrowLeft", "ArrowUp"] * 8)
    with screen.new_masks():
        screen.press("Enter")
    assert [one["kind"] for one in screen.request("GET", "/api/given/0")[0]["prompts"]] == ["box"]


def test_windows_are_answered_with_keys(screen, clip):
    for number in (1, 2):
        screen.click_on_object(clip.truth[0], number)
    screen.press("m", "Space")
    with screen.new_masks():
        screen.press("Enter")
    screen.wait_for_objects(1)
    screen.press("k", "ArrowDown")
    with screen.new_masks():
        screen.press("Enter")
    screen.wait_for_state(lambda state: len(state["objects"]) == 2)
    screen.press("?", "Escape", "n", "Shift+I", "Escape")
    assert screen.page.locator("dialog[open]").count() == 0


def test_tab_reaches_every_control_and_comes_round(screen, clip):
    screen.click_on_object(clip.truth[0], 1)
    name = "(e) => e.id || e.dataset.command || e.getAttribute('aria-label') || e.className"
    able = screen.page.locator("#work :is(button, input, canvas[tabindex], [role=slider]):visible:enabled")
    names = set(able.evaluate_all(f"all => all.map({name})"))
    assert len(names) > 40
    seen = set()
    screen.page.evaluate("() => document.activeElement.blur()")
    for _ in range(80):
        screen.press("Tab")
        seen.add(screen.page.evaluate(f"() => ({name})(document.activeElement)"))
    assert names - seen == set()


def test_everything_that_can_be_used_has_a_name(screen, clip):
    screen.click_on_object(clip.truth[0], 1)
    screen.click_on_object(clip.truth[0], 2)
    found = names_of_controls(screen)
    assert len(found) > 40
    assert [role for role, name in found if not name] == []
    for key in ("?", "Shift+E", "Shift+I", "m", "k"):
        screen.press(key)
        screen.page.get_by_role("dialog").wait_for()
        found = names_of_controls(screen)
        assert len(found) >= 1 and all(name for _, name in found), (key, found)
        screen.press("Escape")
    screen.press("Shift+O")
    screen.page.locator("#browse-list button").first.wait_for()
    assert all(name for _, name in names_of_controls(screen))


def test_all_keys_are_listed(screen):
    screen.press("?")
    listed = screen.page.get_by_role("dialog").inner_text()
    titles = screen.page.locator("button[aria-keyshortcuts]").evaluate_all(
        "buttons => buttons.map((button) => button.title.replace(/ \\(.*/, ''))"
    )
    assert len(titles) > 20
    assert [title for title in titles if title not in listed] == []


def test_nothing_is_cut_off_on_a_small_screen(screen, clip):
    """1280 × 720, with the widest things shown; a list scrolls only when it is full."""
    for number in (1, 2):
        screen.click_on_object(clip.truth[0], number)
    outside = """() => [...document.querySelectorAll('#work *, #bar *')].filter((element) => {
      const box = element.getBoundingClientRect();
      if (!box.width || !box.height || element.closest('.hidden, svg, .track, option')) return false;
      const around = element.parentElement.getBoundingClientRect();
      return box.left < -0.5 || box.top < -0.5 || box.right > innerWidth + 0.5 || box.bottom > innerHeight + 0.5 ||
        box.right > around.right + 1.5 || box.bottom > around.bottom + 1.5;
    }).map((element) => element.outerHTML.slice(0, 120))"""
    scrolls = """() => [document.documentElement, document.body, ...document.querySelectorAll('#work *')]
      .filter((element) => element.scrollHeight > element.clientHeight + 1 && element.clientHeight > 0 &&
        ['auto', 'scroll'].includes(getComputedStyle(element).overflowY))
      .map((element) => element.className || element.tagName)"""
    assert screen.page.evaluate(outside) == []
    assert screen.page.evaluate(scrolls) == []
    assert screen.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    picture = screen.picture.bounding_box()
    assert picture["width"] * picture["height"] > 0.35 * 1280 * 720
    screen.press("?")
    dialog = screen.page.get_by_role("dialog")
    assert dialog.evaluate("one => one.scrollHeight <= one.clientHeight + 1")


def test_twenty_objects_scroll_in_their_list(screen):
    for number in range(20):
        body = {"frame": 0, "object": None, "stroke": [[20 * number + 10, 60]], "radius": 5, "erase": False}
        screen.request("POST", "/api/brush", body)
    screen.wait_for("() => document.querySelectorAll('#object-list li').length === 20")
    assert screen.page.evaluate("() => document.documentElement.scrollHeight <= innerHeight")
    assert screen.page.locator("#object-list").evaluate("one => one.scrollHeight > one.clientHeight")
    assert screen.button("doubt-next").is_visible()
