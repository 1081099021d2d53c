"""A cluster of Ray, of several nodes on one machine: what is done when actors and nodes die."""

import os
import pickle
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskstream.engine.backend import Job, Outcome
from maskstream.engine.batch import BatchFolder, BatchSummary, jobs_of, request_of, run_batch
from maskstream.engine.batch_work import BatchWork
from maskstream.engine.predict import Request, predict_to_folder
from maskstream.engine.presets import preset_of
from maskstream.engine.sources import find_videos
from maskstream.engine.split import Split
from maskstream.sinks.folder import OwnedFolder
from maskstream.synthetic.layouts import write_dataset
from maskstream.synthetic.videos import synthetic_videos
from maskstream.types import InputError, MaskstreamWarning, Task, VideoError
from maskstream.video import open_video

from .batch_parts import QUICK, InProcess, all_files, write_clips

pytestmark = pytest.mark.slow
ray = pytest.importorskip("ray", reason='the engine ray needs Ray: pip install "ray[data]"')
psutil = pytest.importorskip("psutil", reason="to find what to kill")

from maskstream.engine.ray_engine import RayBackend, _DecodedElsewhere, _Segment  # noqa: E402 - only where there is Ray

_NICENESS = "RAY_worker_niceness"
NAMES = [f"v{n}.mp4" for n in range(8)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight videos, and one that is none."""
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, NAMES, frames=40)
    (folder / "text.mp4").write_bytes(b"this is not a video\n" * 20)
    return folder


@pytest.fixture(scope="module")
def expected(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process makes of them."""
    output = tmp_path_factory.mktemp("expected") / "out"
    run(clips, output, InProcess())
    return all_files(output / "videos")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without cores, and two nodes of one core."""
    from ray.cluster_utils import Cluster

    os.environ[_NICENESS] = "0"  # so that a busy machine does not stop them altogether
    built = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        built.add_node(num_cpus=1)
    ray.init(address=built.address, log_to_driver=False)
    built.wait_for_nodes()
    yield built
    ray.shutdown()
    built.shutdown()
    del os.environ[_NICENESS]


def run(
    clips: Path,
    output: Path,
    backend: RayBackend | InProcess,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    sources: list[str] | None = None,
    split: Split | None = None,
) -> BatchSummary:
    work = BatchWork(QUICK, {}, output.absolute(), split)
    folder = BatchFolder(output, request_of(work, [str(clips)]))
    jobs = jobs_of(find_videos(sources or [str(clips)]), folder)
    return run_batch(work, jobs, folder, backend, on_outcome=on_outcome)


def processes(*names: str) -> list[Any]:
    """Processes of our cluster that do this."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            title = " ".join(process.cmdline() or [process.name()])
            if title.startswith("ray::") and any(name in title for name in names):
                found.append(process)
    return found


def actors() -> list[Any]:
    """Those that hold a model."""
    return processes("_Segment", "MapWorker")


def test_every_video_is_finished_exactly_once_though_an_actor_and_then_a_node_die(cluster, clips, expected, tmp_path):
    output = tmp_path / "out"
    finished: list[Outcome] = []
    done = threading.Event()
    killed: list[str] = []

    def kill() -> None:
        """First an actor with a video half done, later a node with all that is on it."""
        while not done.is_set() and not (len(finished) >= 1 and actors()):
            time.sleep(0.05)
        if not done.is_set():
            os.kill(actors()[0].pid, signal.SIGKILL)
            killed.append("actor")
        while not done.is_set() and len(finished) < 4:
            time.sleep(0.05)
        if not done.is_set():
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
            killed.append("node")

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        summary = run(clips, output, RayBackend(), finished.append)
    finally:
        done.set()
        killer.join()
    assert killed == ["actor", "node"]
    assert set(summary.failed) == {"text"}
    assert all_files(output / "videos") == expected
    told = Counter(outcome.name for outcome in finished if outcome.reason is None)
    assert told == Counter({Path(name).stem: 1 for name in NAMES})
    cluster.add_node(num_cpus=1)


def test_what_lies_on_a_network_is_brought_by_a_stage_of_its_own(cluster, clips, expected, tmp_path):
    sources = [f"file://{clips / name}" for name in NAMES[:2]] + ["file:///nowhere/z.mp4"]
    summary = run(clips, tmp_path / "out", RayBackend(workers=1), sources=sources)
    assert summary.failed == {"z": "file:///nowhere/z.mp4 does not exist"}
    wanted = {name: content for name, content in expected.items() if name.split("/")[0] in ("v0", "v1")}
    assert all_files(tmp_path / "out" / "videos") == wanted


def test_a_video_that_kills_every_actor_is_not_begun_for_ever(clips, tmp_path):
    work = BatchWork(QUICK, {}, tmp_path / "out")
    job = Job("v0", str(clips / "v0.mp4"))
    actor = _Segment(work, str(tmp_path), 1)
    for number in range(2):  # as two actors left them that died
        (work.unfinished / f"v0.0000000{number}").mkdir(parents=True)
    row = actor({"job": pickle.dumps(job), "content": b""})
    outcome: Outcome = pickle.loads(row["outcome"])
    assert (outcome.reason, outcome.again) == ("2 actors that worked on it died", True)


def test_a_model_that_cannot_be_loaded_stops_everything(cluster, clips, tmp_path):
    work = BatchWork(replace(QUICK, how={**QUICK.how, "propagator": "magic"}), {}, tmp_path)
    with pytest.raises(InputError, match="'magic'"):
        list(RayBackend(workers=1).run(work, [Job("v0", str(clips / "v0.mp4"))]))


# ------------------------------------------------------------ decoding where the cores are


def test_models_on_gpus_get_their_frames_from_decoders_on_cores(cluster, clips, expected, tmp_path):
    """The GPU is one that Ray is told of; the node that has it has no core."""
    node = cluster.add_node(num_cpus=0, num_gpus=1)
    cluster.wait_for_nodes()
    seen: set[int] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.update(process.pid for process in processes("_decode"))
            time.sleep(0.02)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        sources = [str(clips / name) for name in NAMES[:2]]
        summary = run(clips, tmp_path / "out", RayBackend(gpus_per_worker=0.5), sources=sources)
    finally:
        done.set()
        looker.join()
        cluster.remove_node(node)
    assert summary.failed == {}
    assert seen
    wanted = {name: content for name, content in expected.items() if name.split("/")[0] in ("v0", "v1")}
    assert all_files(tmp_path / "out" / "videos") == wanted


def test_a_decoder_gives_what_is_there_and_says_what_is_not(cluster, clips, tmp_path):
    video = open_video(clips / "v0.mp4", stride=3)
    far = _DecodedElsewhere(video)
    for frame, other in zip(far.frames_from(5), video.frames_from(5), strict=True):
        assert (frame.index, frame.timestamp, frame.image.tolist()) == (
            other.index,
            other.timestamp,
            other.image.tolist(),
        )
        assert frame.image.flags.writeable
    assert (far.frame_count, far[6].index) == (video.frame_count, 6)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes((clips / "v0.mp4").read_bytes())
    shortened = open_video(cut)
    cut.write_bytes(cut.read_bytes()[:2000])
    with pytest.warns(MaskstreamWarning, match="ends early"):
        assert len(list(_DecodedElsewhere(shortened))) < 40
    cut.unlink()
    with pytest.raises(VideoError, match=r"cut\.mp4"):
        list(_DecodedElsewhere(shortened))


# ------------------------------------------------------------ pieces, and data sets


def test_a_film_in_pieces_is_the_same_wherever_they_are_done(cluster, tmp_path):
    write_clips(tmp_path / "films", ["film.mp4"], frames=70)
    for name, backend in (("here", InProcess()), ("there", RayBackend(workers=1))):
        summary = run(tmp_path / "films", tmp_path / name, backend, split=Split(frames=32))
        assert (summary.frames, summary.failed) == (70, {})
    assert all_files(tmp_path / "here" / "videos") == all_files(tmp_path / "there" / "videos")


def test_predict_writes_the_same_bytes_on_a_cluster(cluster, tmp_path):
    videos = synthetic_videos(level="easy", seed=3, videos=3, frames=8, size_hw=(64, 96))
    write_dataset(tmp_path / "set", Task.VOS, videos)
    settings = replace(preset_of("davis-2017"), size=64)
    how = {"model": "deva", "segmenter": "motion", "propagator": "flow"}
    request = Request("davis-2017", tmp_path / "set", "val", Task.VOS, "own", how, settings)
    for name, backend in (("here", None), ("there", RayBackend(workers=1))):
        folder = OwnedFolder(tmp_path / name, {"command": "predict", **request.plain()})
        assert predict_to_folder(request, folder, backend=backend).videos == 3
    assert all_files(tmp_path / "here") == all_files(tmp_path / "there")
