"""Nothing is lost, whatever happens to the server or in another tab."""

import shutil

import pytest

from .screen import Screen, middle


def facts(state):
    """What must be the same after the server has been killed."""
    return {key: state[key] for key in ("project", "video", "objects", "undo", "redo")}


@pytest.mark.slow
def test_a_server_that_is_killed_in_the_middle_of_a_job_loses_nothing(server, browser, clip):
    video = server.videos / "clip.mp4"
    shutil.copy(clip.path, video)
    with Screen.on(browser, server.start(video)) as screen:
        screen.wait_for_frame(0)
        screen.click_on_object(clip.truth[0], 1)
        screen.page.locator("#object-name").fill("Wanda")
        screen.page.locator("#object-name").press("Enter")
        screen.press("t")
        found = screen.wait_for_state(lambda state: bool(state["objects"][0]["found"]))["objects"][0]["found"]
        masks = {frame: screen.masks(frame) for frame in (0, found[0][0])}
        server.kill()
        screen.wait_for("() => document.getElementById('connection').textContent.includes('No connection')")
    with Screen.on(browser, server.start()) as screen:
        assert screen.page.locator("#start").is_visible()
        screen.page.get_by_role("textbox").fill(str(server.projects / "clip"))
        screen.page.get_by_role("button", name="Open", exact=True).click()
        screen.wait_for_frame(0)
        state = screen.state()
        assert state["job"] is None
        assert (state["objects"][0]["name"], state["objects"][0]["given"]) == ("Wanda", [0])
        assert state["objects"][0]["found"][0][1] >= found[0][1]
        assert all((screen.masks(frame) == before).all() for frame, before in masks.items())
        before = facts(state)
        screen.run_job(lambda: screen.press("t"))
        assert screen.state()["objects"][0]["found"] == [[1, len(clip.truth) - 1]]
        screen.press("Control+z")
        screen.wait_for_state(lambda state: facts(state) == {**before, "redo": state["redo"]})


@pytest.mark.slow
def test_a_token_opens_the_page_and_stays_with_the_browser(server, browser, clip):
    address = server.start(clip.path, "--token", "open-sesame")
    assert address.endswith("?token=open-sesame")
    with Screen.on(browser, address) as screen:
        screen.wait_for_frame(0)
        screen.page.goto(address.partition("?")[0])  # the browser has it now
        screen.wait_for_frame(0)
        with Screen.on(browser, address) as other, other.new_masks():
            other.wait_for_frame(0)
            screen.click_on_object(clip.truth[0], 1)
    context = browser.new_context()
    refused = context.new_page().goto(address.partition("?")[0])
    assert refused is not None and refused.status == 401
    context.close()


def test_the_page_comes_back_with_the_server(screen):
    screen.page.context.set_offline(True)  # what is begun is refused from here on
    screen.page.evaluate("() => window.dispatchEvent(new Event('offline'))")
    screen.click(200, 100)
    screen.wait_for("() => document.getElementById('failure').textContent.includes('does not answer')")
    screen.page.context.set_offline(False)
    with screen.new_masks():
        screen.click(200, 100)
    assert screen.page.locator("#failure").inner_text() == ""


def test_what_one_tab_does_the_other_shows(screen, clip, browser):
    with Screen.on(browser, screen.page.url) as other:
        other.wait_for_frame(0)
        with other.new_masks():
            screen.click_on_object(clip.truth[0], 1)
        other.page.locator("#object-list li").wait_for()
        screen.page.locator("#object-name").fill("Wanda")
        screen.page.locator("#object-name").press("Enter")
        other.wait_for("() => document.getElementById('object-list').textContent.includes('Wanda')")
        with screen.new_masks():
            other.click_on_object(clip.truth[0], 2)
        screen.wait_for_objects(2)
        with other.new_masks():
            screen.press("Control+z")
        other.wait_for_objects(1)


def test_both_tabs_show_another_video(screen, clip, browser, shared_server):
    video = shared_server.videos / "another.mp4"
    shutil.copy(clip.path, video)
    with Screen.on(browser, screen.page.url) as other:
        other.wait_for_frame(0)
        screen.request("POST", "/api/open", {"path": str(video)})
        for one in (screen, other):
            one.wait_for("() => document.getElementById('video-name').textContent === 'another'")


MALFORMED = [
    "",
    "{",
    "null",
    "[]",
    '"state"',
    '{"type": "unheard of"}',
    '{"type": "masks"}',
    '{"type": "masks", "frames": ["a"]}',
    '{"type": "job"}',
    '{"type": "job", "done": "many"}',
    '{"type": "ended"}',
]


def test_malformed_messages_do_not_break_the_page(screen, clip):
    watch = """() => {
      const Plain = window.WebSocket;
      window.WebSocket = class extends Plain {
        constructor(...all) { super(...all); window.events = this; }
      };
    }"""
    screen.page.add_init_script(f"({watch})()")
    screen.page.reload()
    screen.wait_for_frame(0)
    for text in MALFORMED:
        screen.page.evaluate("text => window.events.onmessage({ data: text })", text)
    screen.page.evaluate("() => window.events.onmessage({ data: new Blob(['x']) })")
    screen.click_on_object(clip.truth[0], 1)
    screen.wait_for_objects(1)


@pytest.mark.parametrize("answer", ["<html>", "{}", "[1]", ""])
def test_malformed_answers_do_not_break_the_page(screen, clip, answer):
    for path in ("**/api/given/*", "**/api/prompt", "**/api/masks/**"):
        screen.page.route(path, lambda route: route.fulfill(body=answer, content_type="application/json"))
    screen.click(*middle(clip.truth[0] == 1))
    screen.wait_for("() => document.getElementById('failure').textContent !== ''")
    screen.page.unroute_all()
    screen.click_on_object(clip.truth[0], 1)
    screen.wait_for_objects(1)


def test_an_error_of_the_server_is_said(screen):
    screen.page.route("**/api/prompt", lambda route: route.fulfill(status=400, json={"error": "the moon is full"}))
    screen.click(200, 100)
    screen.page.get_by_role("alert").filter(has_text="the moon is full").wait_for()
