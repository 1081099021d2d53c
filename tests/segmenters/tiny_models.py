"""Tiny models of `transformers` with random weights, saved as real ones are."""

import json

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
    PreTrainedTokenizerFast,
    Sam2Config,
    Sam2Model,
    SamConfig,
    SamModel,
    SegformerConfig,
    SegformerForSemanticSegmentation,
)

WORDS = ["cat", "dog", "red", "blue", "car", "re", "##mote", "control", "person", "on", "the", "left"]


def save(network, folder, processor):
    """Random weights, large enough that outputs differ between pictures and prompts."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0, 1 / weight[0].numel() ** 0.5, generator=generator)
                weight.mul_(30 if "hypernetworks" in name and "proj_out" in name else 1)
            elif "norm" not in name:
                weight.normal_(0, 0.1, generator=generator)
    network.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"resample": 2, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3], **processor})
    )
    return network


def save_sam(folder):
    config = SamConfig(
        vision_config={
            "hidden_size": 16,
            "output_channels": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 8,
            "window_size": 4,
            "global_attn_indexes": [1],
            "num_pos_feats": 8,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
    )
    processor = {"size": {"longest_edge": 64}, "pad_size": {"height": 64, "width": 64}, "do_pad": True}
    return save(SamModel(config), folder, processor)


def save_sam2(folder):
    config = Sam2Config(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": 8,
                "image_size": [64, 64],
                "window_positional_embedding_background_size": [4, 4],
                "blocks_per_stage": [1, 1, 2, 1],
                "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 1, 1, 1],
                "window_size_per_stage": [4, 4, 4, 4],
                "global_attention_blocks": [3],
            },
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": 16,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
    )
    return save(Sam2Model(config), folder, {"size": {"height": 64, "width": 64}})


def save_grounding_dino(folder):
    config = GroundingDinoConfig(
        backbone_config={
            "model_type": "swin",
            "image_size": 64,
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 1, 1],
            "window_size": 4,
            "out_indices": [2, 3, 4],
        },
        text_config={
            "model_type": "bert",
            "vocab_size": 1100,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "max_position_embeddings": 64,
        },
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=12,
        max_text_len=16,
    )
    # The network knows the separators by the numbers they have in BERT's vocabulary.
    vocabulary = {f"[unused{number}]": number for number in range(1100)}
    for token, number in {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}.items():
        vocabulary = {name: n for name, n in vocabulary.items() if n != number} | {token: number}
    for number, word in enumerate(WORDS, 200):
        vocabulary = {name: n for name, n in vocabulary.items() if n != number} | {word: number}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 102), ("[CLS]", 101))
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    processor = {"size": {"shortest_edge": 64, "longest_edge": 96}, "do_pad": True, "pad_size": None}
    return save(GroundingDinoForObjectDetection(config), folder, processor)


def save_clip_tokenizer(folder, **padding):
    """Whole words only, between the two marks that CLIP has."""
    vocabulary = {"!": 0, "<|startoftext|>": 1, "<|endoftext|>": 31, "[UNK]": 30}
    vocabulary |= {word: number for number, word in enumerate(WORDS, 2)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("<|endoftext|>", 31), ("<|startoftext|>", 1))
    special = {"unk_token": "[UNK]", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=8, **special, **padding).save_pretrained(
        folder
    )


def save_owlv2(folder):
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"vocab_size": 32, "bos_token_id": 1, "eos_token_id": 31}
    config = Owlv2Config(
        text_config=dict(**small, **ends, max_position_embeddings=8),
        vision_config=dict(**small, image_size=64, patch_size=16),
        projection_dim=16,
    )
    save_clip_tokenizer(folder, pad_token="!")
    return save(Owlv2ForObjectDetection(config), folder, {"size": {"height": 64, "width": 64}})


def save_clipseg(folder):
    small = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    ends = {"vocab_size": 32, "bos_token_id": 1, "eos_token_id": 31}
    config = CLIPSegConfig(
        text_config=dict(**small, **ends, num_hidden_layers=1, max_position_embeddings=8),
        vision_config=dict(**small, num_hidden_layers=4, image_size=64, patch_size=16),
        projection_dim=16,
        extract_layers=[0, 1, 3],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    save_clip_tokenizer(folder, pad_token="<|endoftext|>")
    return save(CLIPSegForImageSegmentation(config), folder, {"size": {"height": 64, "width": 64}})


def save_segformer(folder, *, classes):
    config = SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 8, 8],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=8,
    )
    config.num_labels = classes
    return save(SegformerForSemanticSegmentation(config), folder, {"size": {"height": 64, "width": 64}})
