"""The system: what it can do, and which session it starts."""

import pytest
import torch

from maskstream.systems.deva import AssociationSession, Deva, DevaSession, DevaSettings
from maskstream.types import (
    Category,
    CategorySet,
    FrameSegmentation,
    ImageSegmenter,
    InputError,
    Propagator,
    Session,
    Task,
    VideoSegmenter,
)

from .parts import LEFT, SIZE, BoxFiller, MaskState, ScriptedDetector, StillPropagator, found, frame


def test_what_the_model_can_do_depends_on_its_parts():
    assert Deva(StillPropagator()).tasks == {Task.VOS, Task.PVOS}
    whole = Deva(StillPropagator(), prompter=BoxFiller(), detector=ScriptedDetector({}))
    assert whole.tasks == {Task.VOS, Task.PVOS, Task.PET, Task.UVOS, Task.OWVS}
    with pytest.raises(InputError, match=r"cannot do 'vis'; it can do: .*vos"):
        whole.start(Task.VIS, size_hw=SIZE)
    with pytest.raises(InputError, match="unknown label space 'coco'"):
        whole.start(Task.UVOS, size_hw=SIZE, categories="coco")


def test_a_prompted_task_detects_nothing():
    model = Deva(StillPropagator(), detector=ScriptedDetector({0: found(LEFT)}))
    (result,) = model.start(Task.VOS, size_hw=SIZE).step(frame(0))
    assert isinstance(result, FrameSegmentation)
    assert result.segments == ()


def test_the_parts_satisfy_the_contracts():
    """Checked by mypy; here only that the assignments run."""
    propagator: Propagator[int, MaskState] = StillPropagator()
    segmenters: list[ImageSegmenter[int]] = [ScriptedDetector({}), BoxFiller()]
    model: VideoSegmenter = Deva(propagator, prompter=segmenters[1])
    session: Session = model.start(Task.VOS, size_hw=SIZE)
    assert session.latency == 0


@pytest.mark.parametrize("temporal", ["mask-iou", "mask-iou-flow", "query"])
def test_tracking_by_detection_is_another_session_unless_objects_are_prompted(temporal):
    script = {i: found(LEFT, scores=(score,), embeddings_nc=torch.ones((1, 2))) for i, score in enumerate((0.4, 0.6))}
    detector = ScriptedDetector(script)
    settings = DevaSettings(temporal=temporal, min_score=0.5, schedule="semi-online")
    model = Deva(StillPropagator(), detector=detector, settings=settings)
    session = model.start(Task.UVOS, size_hw=SIZE)
    assert isinstance(session, AssociationSession)
    assert [len(session.step(frame(index))[0].segments) for index in range(2)] == [0, 1]
    assert isinstance(model.start(Task.VOS, size_hw=SIZE), DevaSession)


def test_the_detector_is_told_the_label_space():
    animals = CategorySet("animals", (Category(3, "cat"), Category(8, "dog")))
    detector = ScriptedDetector({})
    model = Deva(StillPropagator(), detector=detector, label_space=animals)
    for categories in ("animals", animals, None):
        model.start(Task.OWVS, size_hw=SIZE, categories=categories).step(frame(0))
    assert detector.categories == [animals, animals, None]


def test_the_latency_of_a_session_follows_its_settings_and_its_detector():
    settings = DevaSettings(schedule="semi-online", voting_frames=4)
    model = Deva(StillPropagator(), detector=ScriptedDetector({}), settings=settings)
    assert model.start(Task.UVOS, size_hw=SIZE).latency == 3
    assert model.start(Task.VOS, size_hw=SIZE).latency == 0
