"""What a person does on the picture and with the list of objects, with the mouse."""

import re

import numpy as np
import pytest

from maskstream.metrics.jf import region_similarity

from .screen import middle

FISH, TURTLE = 1, 2


def box_of(mask):
    ys, xs = np.nonzero(mask)
    return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())


def test_a_click_shows_a_mask_on_the_picture(screen, clip):
    fish = clip.truth[0] == FISH
    x, y = middle(fish)
    before = screen.colour_at(x + 12, y)
    with screen.new_masks():
        screen.click(x, y)
    assert region_similarity(screen.masks(0) == 1, fish) > 0.7
    assert np.abs(screen.colour_at(x + 12, y).astype(int) - before).max() > 20
    screen.wait_for_objects(1)
    screen.wait_for("() => document.getElementById('object-name').value === 'object 1'")


def test_the_next_click_refines_the_same_object(screen, clip):
    fish = clip.truth[0] == FISH
    screen.click_on_object(clip.truth[0], FISH)
    missing = fish & (screen.masks(0) != 1)
    with screen.new_masks():
        screen.click(*middle(missing))
    assert len(screen.state()["objects"]) == 1
    assert len(screen.request("GET", "/api/given/0")[0]["prompts"]) == 2


@pytest.mark.parametrize("how", ["right button", "Shift", "sign"])
def test_a_click_may_say_what_is_not_the_object(screen, clip, how):
    screen.click_on_object(clip.truth[0], FISH)
    with screen.new_masks():
        if how == "right button":
            screen.click(210, 20, button="right")
        elif how == "Shift":
            screen.click(210, 20, modifiers=("Shift",))
        else:
            screen.button("sign-minus").click()
            screen.click(210, 20)
    assert [prompt["positive"] for prompt in screen.request("GET", "/api/given/0")[0]["prompts"]] == [True, False]


def test_what_is_not_an_object_needs_an_object(screen):
    screen.click(210, 20, button="right")
    assert "select the object first" in screen.page.locator("#failure").inner_text()
    assert screen.state()["objects"] == []


def test_a_box_finds_what_is_in_it(screen, clip):
    turtle = clip.truth[0] == TURTLE
    x0, y0, x1, y1 = box_of(turtle)
    screen.press("b")
    with screen.new_masks():
        screen.drag((x1, y1), (x0, y0))
    assert region_similarity(screen.masks(0) == 1, turtle) > 0.7
    assert screen.request("GET", "/api/given/0")[0]["prompts"][0]["box"] == pytest.approx([x0, y0, x1, y1], abs=1)


def test_a_scribble_finds_what_it_is_on(screen, clip):
    fish = clip.truth[0] == FISH
    x, y = middle(fish)
    screen.button("tool-scribble").click()
    with screen.new_masks():
        screen.drag((x - 15, y), (x, y - 3), (x + 15, y))
    assert region_similarity(screen.masks(0) == 1, fish) > 0.6


def test_the_brush_paints_and_the_eraser_takes_away(screen):
    screen.press("d", "]")
    radius = int(re.findall(r"\d+", screen.page.locator("#radius-value").inner_text())[0])
    with screen.new_masks():
        screen.drag((150, 100), (250, 100))
    painted = screen.masks(0) == 1
    assert painted[100, 150:250].all()
    assert np.ptp(np.nonzero(painted[:, 200])[0]) + 1 == pytest.approx(2 * radius + 1, abs=2)
    screen.press("e")
    with screen.new_masks():
        screen.drag((200, 60), (200, 140))
    assert not (screen.masks(0) == 1)[100, 200]
    assert (screen.masks(0) == 1)[100, 160]


def test_everything_can_be_undone_and_done_again(screen, clip):
    screen.click_on_object(clip.truth[0], FISH)
    first = screen.masks(0)
    screen.click_on_object(clip.truth[0], TURTLE)
    second = screen.masks(0)
    with screen.new_masks():
        screen.press("Control+z")
    assert np.array_equal(screen.masks(0), first)
    screen.wait_for_objects(1)
    with screen.new_masks():
        screen.button("redo").click()
    assert np.array_equal(screen.masks(0), second)
    with screen.new_masks():
        screen.button("undo").click()
    screen.button("undo").click()
    screen.wait_for_state(lambda state: state["undo"] is None)
    screen.wait_for("() => document.querySelector('[data-command=undo]').ariaDisabled === 'true'")
    assert not screen.masks(0).any()


def test_an_object_is_named_and_coloured(screen, clip):
    screen.click_on_object(clip.truth[0], FISH)
    screen.page.locator("#object-name").fill("Wanda")
    screen.page.locator("#object-name").press("Enter")
    screen.page.locator("#object-category").fill("fish")
    screen.page.locator("#object-category").press("Enter")
    screen.page.locator("#object-colour").evaluate(
        "input => { input.value = '#12ab34'; input.dispatchEvent(new Event('change')); }"
    )
    state = screen.wait_for_state(lambda state: state["objects"][0]["colour"] == "#12ab34")
    assert (state["objects"][0]["name"], state["objects"][0]["category"]) == ("Wanda", "fish")
    assert "Wanda" in screen.page.locator("#object-list").inner_text()


def test_an_object_is_hidden_and_shown(screen, clip):
    x, y = middle(clip.truth[0] == FISH)
    bare = screen.colour_at(x + 12, y)
    screen.click_on_object(clip.truth[0], FISH)
    screen.press("h")
    screen.wait_for_state(lambda state: not state["objects"][0]["visible"])
    screen.wait_for("() => document.querySelector('#object-list li').classList.contains('faint')")
    screen.page.wait_for_timeout(100)
    assert np.abs(screen.colour_at(x + 12, y).astype(int) - bare).max() <= 2
    screen.page.get_by_role("button", name="Show object 1").click()
    screen.wait_for_state(lambda state: state["objects"][0]["visible"])


def test_an_object_is_deleted_and_comes_back(screen, clip):
    screen.click_on_object(clip.truth[0], FISH)
    before = screen.state()["objects"]
    screen.press("Delete")
    screen.wait_for_state(lambda state: state["objects"] == [])
    screen.wait_for_objects(0)
    screen.press("Control+z")
    assert screen.wait_for_state(lambda state: state["objects"] != [])["objects"] == before


def test_an_object_is_cleared_on_one_frame(screen, clip):
    screen.click_on_object(clip.truth[0], FISH)
    with screen.new_masks():
        screen.press("Backspace")
    assert not screen.masks(0).any()
    assert screen.state()["objects"][0]["given"] == []


def test_two_objects_become_one(screen, clip):
    screen.click_on_object(clip.truth[0], FISH)
    screen.click_on_object(clip.truth[0], TURTLE)
    both = screen.masks(0) > 0
    screen.press("m")
    screen.page.get_by_role("checkbox", name="object 1").check()
    with screen.new_masks():
        screen.page.get_by_role("dialog").get_by_role("button", name="Merge").click()
    assert np.array_equal(screen.masks(0) == 2, both)
    assert [one["id"] for one in screen.state()["objects"]] == [2]


def test_parts_of_a_mask_become_objects(screen):
    screen.press("d")
    with screen.new_masks():
        screen.drag((60, 60), (120, 60))
    with screen.new_masks():
        screen.drag((300, 150), (330, 150))
    screen.press("k")
    screen.page.get_by_role("radio", name=re.compile("parts")).check()
    with screen.new_masks():
        screen.page.get_by_role("dialog").get_by_role("button", name="Split").click()
    masks = screen.masks(0)
    assert masks[60, 90] != masks[150, 315]
    assert len(screen.state()["objects"]) == 2


def test_an_object_becomes_another_from_a_frame_on(screen):
    screen.press("d")
    for frame in (0, 3):
        screen.page.locator("#frame-number").fill(f"{frame}")
        screen.page.locator("#frame-number").press("Enter")
        screen.wait_for_frame(frame)
        with screen.new_masks():
            screen.drag((60, 60), (120, 60))
    screen.press("k")
    assert "From frame 3" in screen.page.get_by_role("dialog").inner_text()
    screen.page.get_by_role("dialog").get_by_role("button", name="Split").click()
    state = screen.wait_for_state(lambda state: len(state["objects"]) == 2)
    assert [one["given"] for one in state["objects"]] == [[0], [3]]


def test_ctrl_and_click_selects_what_is_there(screen, clip):
    screen.click_on_object(clip.truth[0], FISH)
    screen.click_on_object(clip.truth[0], TURTLE)
    screen.click(*middle(screen.masks(0) == 1), modifiers=("Control",))
    screen.wait_for("() => document.querySelector('#object-list li').classList.contains('selected')")
    assert screen.page.locator("#object-name").input_value() == "object 1"


def test_the_timeline_and_the_wheel_do_not_change_what_is_clicked_on(screen, clip):
    track = screen.page.locator("#track").bounding_box()
    screen.page.mouse.click(track["x"] + 0.6 * track["width"], track["y"] + 30)
    frame = int(screen.page.locator("#track").get_attribute("aria-valuenow"))
    assert 7 < frame < 14
    screen.wait_for_frame(frame)
    screen.page.mouse.move(*screen.place(214, 120))
    screen.page.mouse.wheel(0, -100)  # the middle of the picture stays where it is
    screen.page.mouse.wheel(0, 100)
    with screen.new_masks():
        screen.click(*middle(clip.truth[frame] == FISH))
    assert region_similarity(screen.masks(frame) == 1, clip.truth[frame] == FISH) > 0.6


def test_keys_step_through_time(screen, clip):
    last = len(clip.truth) - 1
    walk = [
        ("End", last),
        (",", last - 1),
        ("PageUp", last - 11),
        ("Home", 0),
        ("ArrowRight", 1),
        ("Shift+ArrowRight", 11),
    ]
    for key, frame in walk:
        screen.press(key)
        screen.wait_for_frame(frame)
    screen.press("Space")
    screen.wait_for(f"() => Number(document.getElementById('picture').dataset.frame) === {last}")
    assert screen.page.locator("#frame-number").input_value() == f"{last}"


def test_pulling_along_the_timeline_shows_frames_on_the_way(screen, clip):
    track = screen.page.locator("#track").bounding_box()
    screen.page.evaluate(
        """() => {
          window.seen = new Set();
          const picture = document.getElementById("picture");
          new MutationObserver(() => window.seen.add(picture.dataset.frame)).observe(picture, { attributes: true });
        }"""
    )
    left, right = track["x"] + 130, track["x"] + track["width"] - 20
    screen.page.mouse.move(left, track["y"] + 30)
    screen.page.mouse.down()
    screen.page.mouse.move(right, track["y"] + 30, steps=40)
    screen.page.mouse.up()
    screen.wait_for_frame(len(clip.truth) - 1)
    assert len(screen.page.evaluate("() => [...window.seen]")) > len(clip.truth) / 2


def test_doubtful_places_are_visited_in_time_where_they_are_worst(screen, clip):
    """Neighbouring frames of one object are one place; after the last comes the first."""
    for number in (FISH, TURTLE):
        screen.click_on_object(clip.truth[0], number)
    doubts = [(6, 1, 0.9), (12, 2, 0.7), (5, 1, 0.6), (7, 1, 0.55)]

    def doubtful(route):
        listed = [{"frame": frame, "object": one, "doubt": doubt, "why": "it is foggy"} for frame, one, doubt in doubts]
        route.fulfill(json={**route.fetch().json(), "doubtful": listed})

    assert screen.button("doubt-next").get_attribute("aria-disabled") == "true"
    screen.page.route("**/api/state", doubtful)
    screen.page.reload()
    screen.wait_for_frame(0)
    for key, frame, name, per_cent in [("j", 6, 1, 90), ("j", 12, 2, 70), ("j", 6, 1, 90), ("Shift+J", 12, 2, 70)]:
        screen.press(key)
        screen.wait_for_frame(frame)
        assert screen.page.locator("#doubt-here").inner_text() == f"object {name}: it is foggy (doubt {per_cent} %)"
        assert screen.page.locator("#object-name").input_value() == f"object {name}"
    screen.page.unroute_all()
