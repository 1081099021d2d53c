"""A video through MPVSS: few key frames, masks that follow what they are of, every pixel a class."""

import numpy as np
import pytest
import torch

from maskstream.mask2former.checkpoints import save_core
from maskstream.mask2former.network import DEVIATION, MEAN
from maskstream.pretrained import Pixels
from maskstream.segmenters.mask2former import load_mask2former
from maskstream.synthetic.scene import WORLD
from maskstream.systems.mpvss import KeySettings, Motion, Mpvss, MpvssNetwork, MpvssSettings, load_mpvss, save_mpvss
from maskstream.systems.mpvss.network import KeyFrame, motion_config
from maskstream.systems.mpvss.session import pixel_flow
from maskstream.types import CategorySet, Frame, InputError, PointPrompt, Task
from tests.mask2former.networks import small_network

SIZE = (64, 96)
PIXELS = Pixels(divisor=32)


def core(seed=0):
    network = small_network(seed, classes=3)
    network.config.id2label = {0: "square", 1: "floor", 2: "wall"}
    return network


def network(*, motion=False, **changed):
    """A core that was not trained, and a motion module of its size."""
    made = core()
    sizes = {
        "widths": (4, 8, 8, 8, 8, 8),
        "feedforward": 32,
        "motion_dim": 8,
        "decoder_widths": (8, 8, 8, 8),
        **changed,
    }
    torch.manual_seed(1)
    return MpvssNetwork(made, Motion(motion_config(made, **sizes)) if motion else None).eval()


class Painted(MpvssNetwork):
    """Finds on a key frame what is bright, as class 0, and the rest, as class 1; counts key frames."""

    def __init__(self):
        super().__init__(core(), None)
        self.keys = 0

    def maps(self, pixels_b3hw):
        self.keys += 1
        return (torch.nn.functional.avg_pool2d(DEVIATION[0] * pixels_b3hw[:, :1] + MEAN[0], 4),)

    def answered(self, maps, picture_b3hw):
        masks = (maps[0] - 127.0) / 8
        classes = torch.tensor([[[9.0, 0, 0, 0], [0, 9.0, 0, 0]]])
        return KeyFrame(classes, torch.cat([masks, -masks], 1), torch.zeros(1, 2, 32), picture_b3hw)


def square(index, x):
    """A textured bright square at column x on a textured dark floor."""
    rng = np.random.default_rng(0)
    image = np.repeat(rng.integers(0, 90, (*SIZE, 1), np.uint8), 3, axis=2)
    image[16:48, x : x + 32] = np.random.default_rng(1).integers(165, 255, (32, 32, 1), np.uint8)
    return Frame(index, index / 10, image)


def floor(index):
    """The floor without the square."""
    image = square(index, 4).image.copy()
    image[16:48, 4:36] = square(index, 60).image[16:48, 4:36]
    return Frame(index, index / 10, image)


def session(made, **settings):
    keys = KeySettings(**{name: settings.pop(name) for name in ("interval", "adaptive") if name in settings})
    return Mpvss(made, PIXELS, settings=MpvssSettings(keys=keys, **settings)).start(Task.VSS, size_hw=SIZE)


def watch(one, frames):
    return [*(result for frame in frames for result in one.step(frame)), *one.finish()]


def overlap(result, x):
    """IoU of the square with where it is."""
    found = result.semantic_map() == 0
    truth = torch.zeros(SIZE, dtype=torch.bool)
    truth[16:48, x : x + 32] = True
    return ((found & truth).sum() / (found | truth).sum()).item()


def test_few_frames_are_segmented_and_all_are_answered_at_once():
    made = Painted()
    one = session(made, interval=5)
    for n in range(15):
        (result,) = one.step(square(n, n))
        assert result.frame_index == n and one.latency == 0
    assert made.keys == 3
    one.step(square(15, 15), force_key=True)
    assert made.keys == 4


def test_with_a_key_frame_every_frame_it_is_the_segmenter_of_pictures(tmp_path):
    save_core(core(), tmp_path, short_side=64)
    frames = [square(n, 4 * n) for n in range(3)]
    model = load_mpvss(str(tmp_path), settings=MpvssSettings(keys=KeySettings(interval=1)))
    ours = watch(model.start(Task.VSS, size_hw=SIZE), frames)
    segmenter = load_mask2former(str(tmp_path), task="semantic")
    for frame, result in zip(frames, ours, strict=True):
        proposals = segmenter.segment(segmenter.encode([frame])[0])
        labels = torch.full(SIZE, -1)
        for category, mask in zip(proposals.categories, proposals.masks_nhw, strict=True):
            assert category is not None
            labels[mask] = category
        assert torch.equal(result.semantic_map(void=-1).long(), labels)


def reached(result, x):
    """How much of the square is found."""
    return (result.semantic_map() == 0)[16:48, x : x + 32].float().mean().item()


def test_masks_that_are_carried_follow_the_square_and_copies_do_not():
    """A copy reaches 20 of the 32 columns. What is uncovered has no place in the key frame and stays a ghost."""
    frames = [square(n, 3 * n) for n in range(5)]
    carried, copied = (watch(session(Painted(), carrying=way), frames)[-1] for way in ("flow", "copy"))
    assert reached(copied, 12) == pytest.approx(20 / 32, abs=0.02)  # pooled and drawn, edges are soft
    assert reached(carried, 12) > 0.95
    assert overlap(carried, 12) > overlap(copied, 12) + 0.2


def test_from_both_sides_results_wait_for_the_next_key_frame_and_come_in_order():
    one = session(Painted(), carrying="bidirectional", interval=4)
    arrivals = [[result.frame_index for result in one.step(square(n, n))] for n in range(7)]
    assert arrivals == [[0], [], [], [], [1, 2, 3, 4], [], []]
    assert [result.frame_index for result in one.finish()] == [5, 6] and one.latency == 3
    assert list(one.finish()) == []


def test_what_appears_is_there_before_the_next_key_frame_if_masks_come_from_both_sides():
    frames = [floor(0), *(square(n, 60) for n in range(1, 5))]
    both, one = (watch(session(Painted(), carrying=way, interval=4), frames)[3] for way in ("bidirectional", "flow"))
    assert overlap(both, 60) > 0.9 and overlap(one, 60) < 0.3


def test_both_sides_of_a_cut_are_kept_apart():
    """A key frame of another scene says nothing, although nobody asked for adaptive key frames."""
    frames = [square(n, 4 if n < 2 else 60) for n in range(5)]
    results = watch(session(Painted(), carrying="bidirectional", interval=4), frames)
    for n in range(5):
        assert overlap(results[n], 4 if n < 2 else 60) > 0.95


@pytest.mark.parametrize("way", ["dff", "accel"])
def test_features_that_are_carried_follow_the_square(way):
    results = watch(session(Painted(), carrying=way), [square(n, 3 * n) for n in range(5)])
    assert reached(results[-1], 12) > 0.95


def test_what_appears_is_seen_only_if_features_are_mended():
    """A square where there was floor: flow cannot explain it, so the frame itself is looked at."""
    frames = [floor(0), square(1, 4)]
    mended, carried = (watch(session(Painted(), carrying=way), frames)[1] for way in ("accel", "dff"))
    assert overlap(mended, 4) > 0.8 and overlap(carried, 4) < 0.3


def test_features_move_by_learned_flow_only_if_it_is_one_for_all():
    for kind, count in (("pixel", 4), ("refined", 4), ("fused", 0), ("query", 0)):
        made = network(motion=True, flow=kind)
        calls: list[int] = []
        made.motion.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        watch(session(made, carrying="dff"), [square(n, n) for n in range(5)])
        assert len(calls) == count


def test_nothing_of_before_is_left_after_a_cut_that_was_seen():
    frames = [square(n, 4) for n in range(3)] + [square(n, 60) for n in range(3, 5)]
    made = Painted()
    results = watch(session(made, adaptive=True, interval=9), frames)
    assert made.keys == 2 and overlap(results[3], 60) > 0.95


def test_the_motion_module_is_asked_between_key_frames_and_never_on_them():
    made = network(motion=True)
    calls = []
    made.motion.register_forward_hook(lambda *_: calls.append(1))
    watch(session(made, interval=5), [square(n, n) for n in range(15)])
    assert len(calls) == 12


def test_optical_flow_points_from_the_frame_to_its_key_frame():
    pictures = [torch.from_numpy(square(0, x).image).permute(2, 0, 1).float() for x in (12, 20)]
    flow = 4 * pixel_flow(pictures[1], pictures[0])[0, 0]
    assert flow.shape == (2, 16, 24)
    assert flow[0, 6:10, 8:10].mean().item() == pytest.approx(-8, abs=1.5)
    assert abs(flow[1, 6:10, 8:10].mean().item()) < 1


@pytest.mark.parametrize("after", [1, 4, 5, 7])
@pytest.mark.parametrize(
    ("motion", "carrying"),
    [(False, "flow"), (True, "motion"), (True, "bidirectional"), (False, "dff"), (False, "accel")],
)
def test_a_session_goes_on_from_its_state(motion, carrying, after):
    made, frames = network(motion=motion), [square(n, 3 * n) for n in range(9)]

    def told(results):
        return [(r.frame_index, r.segments, r.label_map().tolist(), r.events) for r in results]

    whole = told(watch(session(made, adaptive=True, carrying=carrying), frames))
    first, second = (session(made, adaptive=True, carrying=carrying) for _ in range(2))
    begun = [result for frame in frames[:after] for result in first.step(frame)]
    second.load_state_dict(first.state_dict())
    assert told(begun) + told(watch(second, frames[after:])) == whole
    assert [track.track_id for track in second.tracks()]


@pytest.mark.parametrize("carrying", ["flow", "bidirectional", "dff"])
def test_memory_does_not_grow_with_the_video(carrying):
    one = session(Painted(), carrying=carrying)
    sizes = []
    for n in range(60):
        one.step(square(n, n % 30))
        state = one.state_dict()
        kept = [*state["key"], *state["maps"], *(picture for _, picture in state["waiting"])]
        sizes.append(sum(tensor.numel() for tensor in kept))
    assert sizes == 12 * sizes[:5]


def test_only_what_is_asked_for_is_shown_under_its_name():
    wanted = CategorySet.from_names(["Floor", "square"], name="mine")
    made = Mpvss(Painted(), PIXELS)
    (result,) = made.start(Task.VSS, size_hw=SIZE, categories=wanted).step(square(0, 8))
    assert set(result.semantic_map().unique().tolist()) == {1, 2}


def test_what_is_removed_is_not_shown_again():
    one = session(Painted())
    one.step(square(0, 8))
    one.remove([1])
    (result,) = one.step(square(1, 8))
    assert [segment.track_id for segment in result.segments] == [2]


def test_a_network_is_written_and_read(tmp_path):
    made = network(motion=True)
    with torch.no_grad():
        made.motion.decoder.fuse_layer.conv.weight.normal_()
    save_mpvss(made, tmp_path, short_side=64)
    read = load_mpvss(str(tmp_path)).network
    assert read.motion is not None and made.motion is not None
    assert read.motion.config == made.motion.config
    frames = [square(n, 4 * n) for n in range(3)]
    ours, theirs = (watch(session(one), frames) for one in (made, read))
    assert all(torch.equal(a.label_map(), b.label_map()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("act", "match"),
    [
        (lambda: session(network(), carrying="motion"), "no motion module"),
        (lambda: session(network()).prompt([PointPrompt(0, 1, ((1, 1),))]), "no prompts"),
        (lambda: Mpvss(network(), PIXELS).start(Task.VPS, size_hw=SIZE), "can do: vss"),
        (lambda: Mpvss(network(), PIXELS).start(Task.VSS, size_hw=SIZE, soft=True), "no probabilities"),
        (lambda: Mpvss(network(), PIXELS).start(Task.VSS, size_hw=SIZE, categories=WORLD), "none of the 22"),
        (lambda: session(network()).step(Frame(0, 0.0, np.zeros((4, 4, 3), np.uint8))), "4×4"),
    ],
    ids=["motion", "prompt", "task", "soft", "categories", "size"],
)
def test_what_does_not_fit_is_refused(act, match):
    with pytest.raises(InputError, match=match):
        act()


@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_a_damaged_motion_module_is_told(tmp_path, damage):
    save_mpvss(network(motion=True), tmp_path, short_side=64)
    weights = tmp_path / "mpvss.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "gone":
        weights.unlink()
    else:
        settings = tmp_path / "mpvss.json"
        settings.write_text(settings.read_text().replace('"stages": 3', '"stages": 2'))
    with pytest.raises(InputError, match=r"mpvss\.safetensors"):
        load_mpvss(str(tmp_path))
