"""OneFormer from a folder, against the network of `transformers` itself."""

import json

import pytest
import torch
from transformers import CLIPTokenizer, OneFormerConfig, OneFormerForUniversalSegmentation

from maskstream.segmenters.oneformer import load_oneformer
from maskstream.types import InputError

from .query_models import LABELS, at_source, frame, limit, same, save, swin, theirs

LENGTH = 24


def build(*, is_training):
    config = OneFormerConfig(
        backbone_config=swin(),
        conv_dim=32,
        mask_dim=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        num_attention_heads=2,
        encoder_layers=1,
        decoder_layers=3,
        query_dec_layers=1,
        num_queries=12,
        text_encoder_width=64,
        text_encoder_num_layers=1,
        text_encoder_vocab_size=64,
        task_seq_len=LENGTH,
        dropout=0.5,
        is_training=is_training,
        id2label=LABELS,
    )
    return OneFormerForUniversalSegmentation(config)


def class_head(network):
    return network.model.transformer_module.decoder.class_embed


def save_tokenizer(folder):
    """CLIP's way of writing words, with letters only."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)


def save_oneformer(folder, *, is_training=False, **processor):
    processor = {"size": {"shortest_edge": 64, "longest_edge": 128}, **processor}
    save_tokenizer(folder)
    return save(lambda: build(is_training=is_training), folder, processor, class_head=class_head)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oneformer")
    return folder, save_oneformer(folder)


def tokens(folder, task):
    """As the processor of `transformers` makes them."""
    cut = CLIPTokenizer.from_pretrained(folder)([f"the task is {task}"], padding="max_length", max_length=LENGTH)
    return torch.tensor(cut["input_ids"]) * torch.tensor(cut["attention_mask"])


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_proposals_are_what_transformers_makes_of_its_own_forward(saved, task):
    folder, network = saved
    picture = frame(71, 117)
    segmenter = load_oneformer(str(folder), task=task)
    (seen,) = segmenter.encode([picture])
    assert (seen.content_hw, seen.window_hw, seen.size_hw) == ((64, 105), (64, 128), (71, 117))
    with torch.no_grad():
        answers = network(segmenter.pixels([picture]), tokens(folder, task))
    torch.testing.assert_close(seen.classes_wqc, answers.class_queries_logits, atol=1e-4, rtol=1e-4)
    if task == "semantic":
        return  # their sum over queries is not at the size that the network saw; test_queries.py compares where it is
    logits_qhw = at_source(answers.masks_queries_logits[0], (64, 128), (64, 105), (71, 117))
    segmenter.min_score = limit(task, answers.class_queries_logits[0])
    expected = theirs(task, answers.class_queries_logits[0], logits_qhw, threshold=segmenter.min_score)
    assert expected
    same(segmenter.segment(seen), expected)


def test_the_network_is_told_the_task(saved):
    folder, _ = saved
    assert torch.equal(load_oneformer(str(folder), task="semantic").task_tokens, tokens(folder, "semantic")[0])
    panoptic, instance = (
        load_oneformer(str(folder), task=task).encode([frame(64, 96)])[0] for task in ("panoptic", "instance")
    )
    assert not torch.allclose(panoptic.classes_wqc, instance.classes_wqc)


def test_several_frames_are_told_the_same(saved):
    segmenter = load_oneformer(str(saved[0]))
    pictures = [frame(64, 96, seed=n) for n in range(2)]
    for picture, both in zip(pictures, segmenter.encode(pictures), strict=True):
        torch.testing.assert_close(both.classes_wqc, segmenter.encode([picture])[0].classes_wqc, atol=1e-4, rtol=1e-4)


def test_what_was_saved_in_training_neither_drops_out_nor_asks_for_sentences(saved, tmp_path):
    save_oneformer(tmp_path, is_training=True)
    segmenter = load_oneformer(str(tmp_path))
    first, second = (segmenter.encode([frame(64, 96)])[0].classes_wqc for _ in range(2))
    assert torch.equal(first, second)


def test_things_are_those_that_the_processor_lists(saved, tmp_path):
    assert [c.is_thing for c in load_oneformer(str(saved[0])).label_space.categories] == [None] * 5
    save_oneformer(tmp_path, metadata={"0": "person", "thing_ids": [0, 1, 4], "class_names": list(LABELS.values())})
    space = load_oneformer(str(tmp_path)).label_space
    assert [c.is_thing for c in space.categories] == [True, True, False, False, True]


def test_a_folder_without_a_tokenizer_is_refused(saved, tmp_path):
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((saved[0] / name).read_bytes())
    with pytest.raises(InputError, match="holds no tokenizer") as raised:
        load_oneformer(str(tmp_path))
    assert "\n" not in str(raised.value)


def test_a_folder_without_a_model_names_one_that_can_be_had(tmp_path):
    with pytest.raises(InputError, match=r"config.json is not in it; .*shi-labs/oneformer_.*MIT") as raised:
        load_oneformer(str(tmp_path))
    assert "\n" not in str(raised.value)
