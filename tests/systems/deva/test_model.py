"""The system: what it can do, and which session it starts."""

import pytest

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
