"""Image-level segmenters, one file per family."""

from .grabcut import GrabCutSegmenter as GrabCutSegmenter
from .motion import LearnedMotionSegmenter as LearnedMotionSegmenter
from .motion import MotionSegmenter as MotionSegmenter
