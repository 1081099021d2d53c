"""``maskstream doctor``: is everything here that segmentation needs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    what: str
    state: Literal["ok", "warning", "problem"]
    detail: str


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Check this installation: versions, devices, codecs, and a tiny video through the whole pipeline."""
    findings = [check() for check in (_python, _torch, _devices, _kernels, _torchvision, _codecs)]
    findings.append(_pipeline(debug=debug))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        colours = {"ok": typer.colors.GREEN, "warning": typer.colors.YELLOW, "problem": typer.colors.RED}
        for finding in findings:
            typer.secho(f"{finding.state:8}", fg=colours[finding.state], nl=False)
            typer.echo(f" {finding.what}: {finding.detail}")
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _torch() -> Finding:
    import cv2
    import torch

    return Finding("libraries", "ok", f"torch {torch.__version__}, OpenCV {cv2.__version__}")


def _devices() -> Finding:
    import torch

    devices = [f"CPU with {torch.get_num_threads()} threads"]
    devices += [f"CUDA {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    devices += ["MPS"] if torch.backends.mps.is_available() else []
    return Finding("devices", "ok", ", ".join(devices))


def _kernels() -> Finding:
    """Compiled loops for the CPU; without them another form does the same, more slowly."""
    if importlib.util.find_spec("numba") is None:
        return Finding("CPU kernels", "ok", "numba is not installed; with it Mask2Former is faster: pip install numba")
    try:
        version = importlib.import_module("numba").__version__
    except Exception as error:  # it looks for a NumPy that it knows, and loads LLVM
        return Finding("CPU kernels", "warning", f"numba does not work here ({error}): pip install --upgrade numba")
    return Finding("CPU kernels", "ok", f"numba {version}")


def _torchvision() -> Finding:
    """A torchvision built for another torch breaks libraries that import it when they find it; we do not need it."""
    if importlib.util.find_spec("torchvision") is None:
        return Finding("torchvision", "ok", "not installed, not needed")
    version = importlib.metadata.version("torchvision")
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        return Finding(
            "torchvision", "warning", f"{version} does not work with this torch ({error}): pip uninstall torchvision"
        )
    return Finding("torchvision", "ok", f"{version}, not needed")


def _codecs() -> Finding:
    import av

    wanted = ("h264", "hevc", "vp9", "av1", "mjpeg")
    missing = [name for name in wanted if name not in av.codecs_available]
    if "libx264" not in av.codecs_available:
        return Finding(
            "codecs", "problem", f"PyAV {av.__version__} cannot write H.264: pip install --force-reinstall av"
        )
    if missing:
        return Finding("codecs", "warning", f"PyAV {av.__version__} cannot read {', '.join(missing)}")
    return Finding("codecs", "ok", f"PyAV {av.__version__} reads {', '.join(wanted)} and writes H.264")


def _pipeline(*, debug: bool) -> Finding:
    """Encode, decode and segment a few frames."""
    from maskstream.api import segment
    from maskstream.synthetic import render_sample
    from maskstream.types import MaskPrompt
    from maskstream.video import VideoWriter

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            rendered = list(render_sample(frames=4, size_hw=(120, 160)))
            with VideoWriter(path, size_hw=(120, 160)) as writer:
                for frame, _ in rendered:
                    writer.write(frame.image, frame.timestamp)
            truth = rendered[0][1].segmentation
            prompts = [
                MaskPrompt(0, s.id, mask)
                for s, mask in zip(truth.segments, truth.masks_nhw(), strict=True)
                if mask.any()
            ]
            results = list(segment(path, prompts=prompts))
    except Exception as error:
        if debug:
            raise
        return Finding("pipeline", "problem", f"{type(error).__name__}: {error} (maskstream doctor --debug tells more)")
    if len(results) != len(rendered) or not results[-1].areas().any():
        return Finding("pipeline", "problem", f"{len(results)} of {len(rendered)} frames came back segmented")
    return Finding("pipeline", "ok", f"encoded, decoded and segmented {len(results)} frames")
