"""From a video to masks that are taken away, as a newcomer would do it."""

from __future__ import annotations

import zipfile
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from maskstream.metrics.jf import region_similarity

from .conftest import opened, write_clip
from .screen import middle

NUMBERS = (1, 2)


def exported(path):
    """The masks of an export in DAVIS layout, by frame."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if "Annotations" in name and name.endswith(".png"))
        return [np.asarray(Image.open(BytesIO(archive.read(name)))) for name in names]


def mean_j(masks, truth):
    return float(
        np.mean([region_similarity(m == n, t == n) for m, t in zip(masks, truth, strict=True) for n in NUMBERS])
    )


def correct(screen, mask, truth):
    """Click where most is missing, or where most is too much."""
    missing, wrong = truth & ~mask, mask & ~truth
    with screen.new_masks():
        if missing.sum() >= wrong.sum():
            screen.click(*middle(missing))
        else:
            screen.click(*middle(wrong), button="right")


@pytest.mark.slow
def test_click_propagate_correct_and_export(screen, clip, tmp_path):
    for number in NUMBERS:
        screen.click_on_object(clip.truth[0], number)
        for _ in range(2):
            correct(screen, screen.masks(0) == number, clip.truth[0] == number)
    screen.run_job(screen.button("both").click)
    state = screen.state()
    assert [one["found"] for one in state["objects"]] == [[[1, len(clip.truth) - 1]]] * 2

    if state["doubtful"]:
        screen.button("doubt-next").click()
        frame = int(screen.page.locator("#frame-number").input_value())
        assert any(doubt["frame"] == frame for doubt in state["doubtful"])
        assert "doubt" in screen.page.locator("#doubt-here").inner_text()
    else:
        frame = len(clip.truth) // 2
        screen.page.locator("#frame-number").fill(f"{frame}")
        screen.page.locator("#frame-number").press("Enter")
    screen.wait_for_frame(frame)
    screen.wait_for("() => document.getElementById('picture').dataset.masks !== ''")
    screen.press("2")
    correct(screen, screen.masks(frame) == 2, clip.truth[frame] == 2)
    outdated = screen.state()["objects"][1]["outdated"]
    assert outdated
    assert "outdated" in screen.page.locator("#object-list").inner_text()
    screen.run_job(screen.button("both").click)
    assert [one["outdated"] for one in screen.state()["objects"]] == [[], []]

    screen.button("export").click()
    screen.page.get_by_role("radio", name="DAVIS-2017").check()
    with screen.page.expect_download() as download:
        screen.page.get_by_role("dialog").get_by_role("button", name="Export").click()
    download.value.save_as(tmp_path / "masks.zip")
    assert mean_j(exported(tmp_path / "masks.zip"), clip.truth) >= 0.85


@pytest.mark.slow
def test_exported_masks_are_imported_to_be_corrected(screen, clip, tmp_path):
    screen.click_on_object(clip.truth[0], 1)
    before = screen.masks(0) > 0
    screen.press("Shift+E")
    with screen.page.expect_download() as download:
        screen.page.get_by_role("dialog").get_by_role("button", name="Export").click()
    download.value.save_as(tmp_path / "masks.zip")
    screen.press("Delete")
    screen.wait_for_state(lambda state: state["objects"] == [])
    screen.button("import").click()
    screen.page.locator("#import-format").select_option("davis")
    screen.page.locator("#import-file").set_input_files(tmp_path / "masks.zip")
    screen.page.get_by_role("dialog").get_by_role("button", name="Import").click()
    state = screen.wait_for_state(lambda state: len(state["objects"]) == 1)
    assert state["objects"][0]["found"] == [[0, 0]]
    assert np.array_equal(screen.masks(0) > 0, before)


@pytest.mark.slow
def test_everything_is_found(screen, clip):
    screen.run_job(screen.button("find").click)
    state = screen.state()
    screen.wait_for_objects(len(state["objects"]))
    middle_frame = len(clip.truth) // 2
    masks, fish = screen.masks(middle_frame), clip.truth[middle_frame] == 1
    assert max(region_similarity(masks == one["id"], fish) for one in state["objects"]) > 0.5


def test_a_job_shows_how_far_it_is_and_stops(browser, shared_server, tmp_path):
    """A long one: it must not be done before the page has shown it."""
    clip = write_clip(tmp_path / "long.mp4", size_hw=(240, 428), frames=150)
    with opened(browser, shared_server, clip, "long") as screen:
        screen.click_on_object(clip.truth[0], 1)
        screen.press("t")
        screen.wait_for("() => /\\d+ of \\d+/.test(document.getElementById('job-facts').textContent)")
        assert screen.button("stop").is_visible()
        screen.button("stop").click()
        screen.page.locator("#job").wait_for(state="hidden")
        screen.wait_for("() => document.getElementById('message').textContent.includes('stopped')")


def test_that_a_job_was_stopped_is_said_when_the_answer_comes_after_its_end(browser, shared_server, tmp_path):
    clip = write_clip(tmp_path / "late.mp4", size_hw=(240, 428), frames=150)
    with opened(browser, shared_server, clip, "late") as screen:

        def late(route):
            response = route.fetch()
            screen.wait_for_state(lambda state: state["job"] is None)
            screen.page.locator("#job").wait_for(state="hidden")
            route.fulfill(response=response)

        screen.page.route("**/api/stop", late)
        screen.click_on_object(clip.truth[0], 1)
        screen.press("t")
        screen.wait_for("() => !document.getElementById('job').hidden")
        with screen.page.expect_response("**/api/stop"):
            screen.button("stop").click()
        screen.page.wait_for_timeout(200)
        assert "stopped" in screen.page.locator("#message").inner_text()


def test_what_is_dropped_on_the_page_is_opened(screen, clip):
    screen.press("Shift+O")
    with screen.page.expect_file_chooser() as chooser:
        screen.page.get_by_role("button", name="Choose a video…").click()
    chooser.value.set_files(clip.path)
    screen.wait_for("() => !document.getElementById('work').hidden")
    state = screen.wait_for_state(lambda state: state["project"]["name"] == "clip")
    assert state["video"]["frames"] == len(clip.truth)
    screen.wait_for_frame(0)


def test_an_upload_that_is_no_video_is_refused(screen):
    before = screen.state()["project"]
    screen.press("Shift+O")
    script = """() => {
      const data = new DataTransfer();
      data.items.add(new File(["this is no video"], "clip.mp4"));
      document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""
    screen.page.evaluate(script)
    screen.wait_for("() => document.getElementById('failure').textContent !== ''")
    assert screen.state()["project"] == before
    screen.page.get_by_role("button", name="Back to the video").click()
    assert screen.page.locator("#work").is_visible()
