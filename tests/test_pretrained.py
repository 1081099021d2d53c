"""Models of `transformers` from folders and hubs, and pictures as they want them."""

import errno
import hashlib
import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError
from transformers import SegformerConfig, SegformerForSemanticSegmentation
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil
from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

from maskstream.pretrained import (
    Pixels,
    cached_folder,
    fetch_pretrained,
    folder_of_kind,
    is_pretrained,
    load_pretrained,
    load_tokenizer,
    parts_of,
    pretrained_folder,
    read_config,
    read_processor,
)
from maskstream.types import Frame, InputError


def picture(height, width, index=0):
    return Frame(index, 0.0, np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8))


def one_line(raised):
    assert "\n" not in str(raised.value)


# -------------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    "processor, size_hw",
    [
        (Mask2FormerImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 128}), (75, 75)),
        (Mask2FormerImageProcessorPil(size={"height": 96, "width": 96}), (75, 120)),
        (DetrImageProcessorPil(size={"shortest_edge": 50, "longest_edge": 100}), (40, 60)),
        (DetrImageProcessorPil(size={"shortest_edge": 50, "longest_edge": 60}), (100, 50)),
        (SegformerImageProcessorPil(size={"height": 64, "width": 48}), (75, 100)),
        (SegformerImageProcessorPil(size={"height": 64, "width": 48}, do_rescale=False, do_normalize=False), (32, 32)),
        (SegformerImageProcessorPil(size={"height": 64, "width": 48}, resample=3), (40, 40)),
        (SegformerImageProcessorPil(size={"height": 64, "width": 48}, resample=0), (128, 96)),
        (SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}), (60, 90)),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else None,
)
def test_pictures_are_those_of_transformers(processor, size_hw, tmp_path):
    frame = picture(*size_hw)
    theirs = processor(frame.image, return_tensors="pt").pixel_values
    processor.save_pretrained(tmp_path)
    pixels = Pixels.of(tmp_path)
    ours = pixels([frame])
    assert ours.shape == theirs.shape
    step = pixels.scale / min(pixels.std)  # both round to whole levels after resizing, at times differently
    assert (ours - theirs).abs().max() <= 1.01 * step
    assert (ours - theirs).abs().gt(0.01 * step).float().mean() < 0.05


@pytest.mark.parametrize("size_hw, padded_hw", [((64, 64), (64, 64)), ((64, 100), (64, 128)), ((110, 64), (128, 64))])
def test_a_divisor_pads_with_zeros_below_and_to_the_right(size_hw, padded_hw):
    frame = picture(*size_hw)
    padded, plain = Pixels(divisor=32)([frame]), Pixels()([frame])
    assert padded.shape[2:] == padded_hw
    assert torch.equal(padded[:, :, : size_hw[0], : size_hw[1]], plain)
    assert padded.count_nonzero() == plain.count_nonzero()


@pytest.mark.parametrize(
    "size_hw, expected",
    [((480, 640), (800, 1067)), ((480, 1200), (533, 1333)), ((1200, 480), (1333, 533)), ((800, 800), (800, 800))],
)
def test_the_short_side_is_as_wanted_unless_the_long_one_grows_too_long(size_hw, expected):
    assert Pixels(shortest=800, longest=1333).resized_hw(size_hw) == expected


def test_sizes_of_older_files_are_understood():
    pixels = Pixels.from_config({"size": 640, "max_size": 2560, "image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    assert (pixels.shortest, pixels.longest, pixels.exact_hw) == (640, 2560, None)
    assert pixels.resized_hw((480, 640)) == (640, 853)


def test_several_frames_are_prepared_as_each_alone():
    frames = [picture(50, 70, n) for n in range(3)]
    pixels = Pixels(shortest=64, divisor=32)
    assert torch.equal(pixels(frames), torch.cat([pixels([frame]) for frame in frames]))


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "preprocessor_config.json is not in it"),
        ("{", "preprocessor_config.json cannot be read"),
        ("[1]", "preprocessor_config.json cannot be read"),
        ('{"size": {"height": 3}}', "says in no known way how pictures are prepared"),
    ],
)
def test_a_damaged_file_of_the_processor_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        Pixels.of(tmp_path)
    one_line(raised)


def test_a_processor_inside_another_is_found(tmp_path):
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {"size": 7}, "tokenizer": {}}))
    assert read_processor(tmp_path) == {"size": 7}
    assert Pixels.of(tmp_path).shortest == 7


# --------------------------------------------------------------------- folders


@pytest.fixture
def hub(monkeypatch):
    """The hub as a list of answers, given one after the other; calls are recorded."""
    calls: list[tuple[str, bool]] = []
    answers: list[Any] = []

    def snapshot_download(name, *, allow_patterns, local_files_only=False):
        calls.append((name, local_files_only))
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return calls, answers


def not_found():
    error = RepositoryNotFoundError.__new__(RepositoryNotFoundError)
    error.args = ("404 Client Error.\nlong story",)
    return error


def test_a_folder_is_taken_as_it_is(tmp_path, hub):
    (tmp_path / "config.json").write_text("{}")
    assert pretrained_folder(str(tmp_path)) == tmp_path
    assert hub[0] == []


def test_a_folder_without_a_config_is_refused(tmp_path, hub):
    with pytest.raises(InputError, match=r"is no folder of a model: config\.json is not in it"):
        pretrained_folder(str(tmp_path))
    assert hub[0] == []


def test_a_model_that_was_fetched_before_needs_no_network(tmp_path, hub):
    hub[1].append(tmp_path)
    assert pretrained_folder("owner/model") == tmp_path
    assert hub[0] == [("owner/model", True)]


def test_a_model_that_is_not_here_is_fetched(tmp_path, hub):
    hub[1].extend([LocalEntryNotFoundError("not here"), tmp_path])
    assert pretrained_folder("owner/model") == tmp_path
    assert hub[0] == [("owner/model", True), ("owner/model", False)]


@pytest.mark.parametrize(
    "answers, message",
    [
        (
            [LocalEntryNotFoundError("no"), LocalEntryNotFoundError("no")],
            "run 'hf download owner/model', copy the folder",
        ),
        ([LocalEntryNotFoundError("no"), OSError("no\nroute")], "the hub cannot be reached"),
        ([LocalEntryNotFoundError("no"), not_found()], "the hub knows no model owner/model that is open to all"),
        ([HFValidationError("bad")], "owner/model is not there, and no name of a model either"),
    ],
    ids=["offline", "no route", "unknown or gated", "no name"],
)
def test_a_model_that_cannot_be_had_is_refused_in_one_line(hub, answers, message):
    hub[1].extend(answers)
    with pytest.raises(InputError, match=message) as raised:
        pretrained_folder("owner/model")
    one_line(raised)


def test_a_model_of_a_kind_names_the_usual_one(tmp_path, hub):
    hub[1].extend([LocalEntryNotFoundError("no"), OSError("no")])
    with pytest.raises(InputError, match=r"hf download owner/model.*; the usual one is theirs/best \(MIT\)") as raised:
        folder_of_kind("owner/model", ("sam",), usual="theirs/best (MIT)")
    one_line(raised)
    (tmp_path / "config.json").write_text('{"model_type": "sam2"}')
    assert folder_of_kind(str(tmp_path), ("sam", "sam2"), usual="") == (tmp_path, "sam2")
    with pytest.raises(InputError, match=r"of kind sam2, not sam: the usual one is theirs/best"):
        folder_of_kind(str(tmp_path), ("sam",), usual="theirs/best")


@pytest.mark.parametrize(
    "text, message", [("{", "cannot be read"), ("[]", "does not say which kind"), ("{}", "does not say which kind")]
)
def test_a_damaged_config_is_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        read_config(tmp_path)
    one_line(raised)


# ------------------------------------------------------------------- fetching


class FakeHub:
    """A hub with one model; what arrives from it can be spoilt, once or for ever."""

    def __init__(self, monkeypatch, cache):
        self.content = {"config.json": b'{"model_type": "sam"}', "model.safetensors": b"weights " * 99}
        self.folder = cache / "0123abc"
        self.spoilt: dict[str, bytes] = {}
        self.mends = True
        self.is_there = True
        self.told: dict[str, Any] = {}
        self.anew: list[str] = []
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot_download)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self.hf_hub_download)
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)

    def snapshot_download(self, name, *, allow_patterns, local_files_only=False):
        if local_files_only and not self.folder.exists():
            raise LocalEntryNotFoundError("not here")
        if not local_files_only and not self.is_there:
            if self.folder.exists():
                return str(self.folder)
            raise LocalEntryNotFoundError("no route")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not local_files_only:
            for file, content in (self.content | self.spoilt).items():
                (self.folder / file).write_bytes(content)
        return str(self.folder)

    def hf_hub_download(self, name, file, *, revision, force_download):
        assert revision == self.folder.name and force_download
        self.anew.append(file)
        (self.folder / file).write_bytes(self.content[file] if self.mends else self.spoilt[file])

    def model_info(self, name, *, revision, files_metadata):
        assert revision == self.folder.name and files_metadata
        if not self.is_there:
            raise RuntimeError("the transport's own error")
        return SimpleNamespace(siblings=[self.sibling(file) for file in [*self.content, "README.md"]])

    def sibling(self, file):
        content = self.content.get(file, b"not wanted")
        large = SimpleNamespace(sha256=hashlib.sha256(content).hexdigest()) if file.endswith("tensors") else None
        blob_id = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return SimpleNamespace(
            **{"rfilename": file, "size": len(content), "lfs": large, "blob_id": blob_id} | self.told
        )


@pytest.fixture
def fake_hub(monkeypatch, tmp_path):
    return FakeHub(monkeypatch, tmp_path)


def test_a_fetched_model_is_compared_with_the_hub(fake_hub):
    assert cached_folder("owner/model") is None
    fetched = fetch_pretrained("owner/model")
    assert (fetched.folder, fetched.files, fetched.is_checked) == (fake_hub.folder, 2, True)
    assert fetched.nbytes == sum(map(len, fake_hub.content.values()))
    assert cached_folder("owner/model") == fake_hub.folder and fake_hub.anew == []


@pytest.mark.parametrize(
    "file, content",
    [
        pytest.param("model.safetensors", b"weights " * 98, id="cut short"),
        pytest.param("model.safetensors", b"w3ights " * 99, id="of the same size, other content"),
        pytest.param("config.json", b'{"model_type": "sun"}', id="a small file, which git names by its content"),
    ],
)
def test_what_arrived_damaged_is_fetched_anew_and_refused_if_that_does_not_help(fake_hub, file, content):
    fake_hub.spoilt[file] = content
    assert fetch_pretrained("owner/model").is_checked
    assert fake_hub.anew == [file]
    assert (fake_hub.folder / file).read_bytes() == fake_hub.content[file]
    fake_hub.mends = False
    with pytest.raises(InputError, match=rf"owner/model arrives damaged \({file} is not what the hub says") as raised:
        fetch_pretrained("owner/model")
    one_line(raised)


def test_only_the_size_is_compared_where_the_hub_tells_no_digest(fake_hub):
    fake_hub.told = {"lfs": None, "blob_id": None}
    fake_hub.spoilt["model.safetensors"] = b"w3ights " * 99
    assert fetch_pretrained("owner/model").is_checked and fake_hub.anew == []


def test_without_the_hub_what_is_here_is_not_checked_and_what_is_not_is_refused(fake_hub):
    fake_hub.is_there = False
    with pytest.raises(InputError, match=r"is not on this machine and the hub cannot be reached") as raised:
        fetch_pretrained("owner/model")
    one_line(raised)
    fake_hub.is_there = True
    fetch_pretrained("owner/model")
    fake_hub.is_there = False
    assert not fetch_pretrained("owner/model").is_checked


def test_a_model_without_weights_that_are_read_is_refused_and_counts_as_not_here(fake_hub):
    del fake_hub.content["model.safetensors"]
    with pytest.raises(InputError, match="owner/model has no weights as safetensors") as raised:
        fetch_pretrained("owner/model")
    one_line(raised)
    assert fake_hub.folder.is_dir() and cached_folder("owner/model") is None


def test_a_full_disk_is_said_to_be_full(hub):
    hub[1].extend([LocalEntryNotFoundError("not here"), OSError(errno.ENOSPC, "No space left on device")])
    with pytest.raises(InputError, match="owner/model does not fit: no space is left on the disk"):
        fetch_pretrained("owner/model")


# --------------------------------------------------------------------- weights


def tiny():
    config = SegformerConfig(
        hidden_sizes=[4, 4, 4, 4],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=4,
        id2label={0: "a", 1: "b"},
    )
    return SegformerForSemanticSegmentation(config)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    network = tiny()
    network.save_pretrained(folder)
    return folder, network


def test_weights_in_half_precision_are_loaded_in_full(tmp_path):
    network = tiny().half()
    network.save_pretrained(tmp_path)
    loaded = load_pretrained(SegformerForSemanticSegmentation, tmp_path)
    for (name, ours), theirs in zip(loaded.state_dict().items(), network.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs.float() if theirs.is_floating_point() else theirs), name
        assert ours.dtype != torch.float16


def test_weights_are_loaded_for_inference(saved):
    folder, network = saved
    loaded = load_pretrained(SegformerForSemanticSegmentation, folder)
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.parameters())
    for (name, ours), theirs in zip(loaded.state_dict().items(), network.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda file: file.unlink(), "holds no weights for SegformerForSemanticSegmentation"),
        (lambda file: file.write_bytes(file.read_bytes()[:1000]), "holds no weights for SegformerForSemanticSegm"),
    ],
    ids=["missing", "cut short"],
)
def test_weights_that_cannot_be_read_are_refused(saved, tmp_path, change, message):
    for file in saved[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    change(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=message) as raised:
        load_pretrained(SegformerForSemanticSegmentation, tmp_path)
    one_line(raised)


def test_missing_weights_are_refused(saved, tmp_path):
    _, network = saved
    weights = network.state_dict()
    del weights["decode_head.classifier.bias"]
    network.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(InputError, match=r"lacks 1 weights of .*, as decode_head\.classifier\.bias: copy it again"):
        load_pretrained(SegformerForSemanticSegmentation, tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(saved):
    with pytest.raises(InputError, match="holds no tokenizer") as raised:
        load_tokenizer(saved[0])
    one_line(raised)


def test_segmenters_are_imported_without_transformers():
    code = "import sys, maskstream.segmenters; print('transformers' in sys.modules)"
    modules = ["mask2former", "maskformer", "oneformer", "eomt", "queries", "label_spaces"]
    code = "; ".join(
        ["import maskstream.pretrained", *(f"import maskstream.segmenters.{name}" for name in modules), code]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_path_that_exists_is_one_model_whatever_is_in_its_name(tmp_path):
    (tmp_path / "a+b").mkdir()
    weights = tmp_path / "a+b" / "weights.pth"
    weights.write_bytes(b"")
    assert not is_pretrained(str(weights))
    (tmp_path / "a+b" / "config.json").write_text('{"model_type": "sam"}')
    assert is_pretrained(str(tmp_path / "a+b"))
    assert parts_of(str(tmp_path / "a+b")) == [str(tmp_path / "a+b")]
    assert parts_of("owner/dino+owner/sam") == ["owner/dino", "owner/sam"]
    assert is_pretrained("owner/dino+owner/sam")
