"""The vocabulary of the house: small types that every room speaks. Imports nothing of ours."""

from .categories import OBJECT, Category, CategorySet
from .contracts import ImageSegmenter, OfflineSegmenter, Propagator, Session, StateDict, VideoSegmenter
from .errors import InputError, MaskstreamError, MaskstreamWarning, OutputError, StalePromptError, VideoError
from .events import Event, EventKind
from .frames import Frame, Video, check_arrival
from .masks import (
    RLE,
    LabelMap,
    PackedMasks,
    decode_rle,
    encode_label_rle,
    encode_rle,
    joint_histogram,
    mask_boxes,
    pack_masks,
    resize_masks,
    rle_area,
    rle_box_xywh,
    unpack_masks,
)
from .overlap import Overlaps, mask_overlaps, tight_boxes
from .prompts import (
    BoxPrompt,
    MaskPrompt,
    ObjectPrompt,
    Point,
    PointPrompt,
    Prompt,
    ScribblePrompt,
    TextPrompt,
    prompt_id,
)
from .proposals import Proposals
from .runs import RunLengthError, Runs, decode_runs
from .samples import Expression, FrameRef, VideoSample
from .segmentation import FrameAnnotation, FrameSegmentation, Segment, Track
from .tasks import Task, check_task

__all__ = [
    "OBJECT",
    "RLE",
    "BoxPrompt",
    "Category",
    "CategorySet",
    "Event",
    "EventKind",
    "Expression",
    "Frame",
    "FrameAnnotation",
    "FrameRef",
    "FrameSegmentation",
    "ImageSegmenter",
    "InputError",
    "LabelMap",
    "MaskPrompt",
    "MaskstreamError",
    "MaskstreamWarning",
    "ObjectPrompt",
    "OfflineSegmenter",
    "OutputError",
    "Overlaps",
    "PackedMasks",
    "Point",
    "PointPrompt",
    "Prompt",
    "Propagator",
    "Proposals",
    "RunLengthError",
    "Runs",
    "ScribblePrompt",
    "Segment",
    "Session",
    "StalePromptError",
    "StateDict",
    "Task",
    "TextPrompt",
    "Track",
    "Video",
    "VideoError",
    "VideoSample",
    "VideoSegmenter",
    "check_arrival",
    "check_task",
    "decode_rle",
    "decode_runs",
    "encode_label_rle",
    "encode_rle",
    "joint_histogram",
    "mask_boxes",
    "mask_overlaps",
    "pack_masks",
    "prompt_id",
    "resize_masks",
    "rle_area",
    "rle_box_xywh",
    "tight_boxes",
    "unpack_masks",
]
