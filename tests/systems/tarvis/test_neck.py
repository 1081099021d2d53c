"""The temporal neck (specification §6 and 17)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from maskstream.systems.tarvis.neck import TemporalLayer, neck_features, windows
from maskstream.types import InputError

from .networks import CHANNELS, maps, pixels, small_tarvis

SIZES = [(4, 6), (8, 12), (16, 24)]


class Nothing(nn.Module):
    """A temporal layer that leaves everything as it is."""

    def forward(self, tokens: Tensor, *_: Tensor) -> Tensor:
        return tokens


def test_every_place_is_in_one_window_and_windows_are_regions() -> None:
    found = windows(SIZES)
    assert found.shape == (6, 84)
    assert found.flatten().sort().values.tolist() == list(range(sum(h * w for h, w in SIZES)))
    before = 0
    for n, (height, width) in enumerate(SIZES):
        side = 2 * 2**n
        for row in range(height):
            for column in range(width):
                window = row // side * 3 + column // side
                assert before + row * width + column in found[window]
        before += height * width


@torch.no_grad()
def test_a_layer_is_attention_within_each_window_over_all_frames() -> None:
    torch.manual_seed(0)
    layer = TemporalLayer(CHANNELS, heads=4, hidden=48)
    places = windows([(2, 4), (4, 8)])
    tokens, codes = torch.randn(2, 3, 40, CHANNELS), torch.randn(3, 40, CHANNELS)
    found = layer(tokens, codes, places)
    for b in range(2):
        for window in places:
            values = tokens[b][:, window].reshape(1, -1, CHANNELS)
            asked = values + codes[:, window].reshape(1, -1, CHANNELS)
            x = layer.attention_norm(values + layer.attention(asked, asked, values)[0])
            expected = layer.norm(x + layer.contract(layer.expand(x).relu()))
            assert torch.allclose(found[b][:, window].reshape(1, -1, CHANNELS), expected, atol=1e-5)


@torch.no_grad()
def test_windows_do_not_see_each_other_but_frames_do() -> None:
    torch.manual_seed(0)
    layer = TemporalLayer(CHANNELS, heads=4, hidden=48)
    places, codes = windows([(2, 4), (4, 8)]), torch.randn(3, 40, CHANNELS)
    tokens = torch.randn(1, 3, 40, CHANNELS)
    other = tokens.clone()
    other[0, 1, places[0, 0]] += 1
    change = (layer(tokens, codes, places) - layer(other, codes, places))[0].abs().amax(2)
    assert (change[:, places[0]] > 0).all()
    assert (change[:, places[1]] == 0).all()


@torch.no_grad()
def test_without_temporal_layers_levels_are_those_of_mask2former() -> None:
    network = small_tarvis()
    network.targets.neck.layers = nn.ModuleList([Nothing()])
    module = network.core.model.pixel_level_module
    clip = pixels(batch=2, frames=2)
    theirs = module(clip.flatten(0, 1))
    ours = network.features(clip)
    for level, expected in zip(ours.levels, theirs.decoder_hidden_states, strict=True):
        assert level.shape[:2] == (2, 2)
        assert torch.allclose(level.flatten(0, 1), expected, atol=1e-5)
    assert torch.allclose(ours.mask_features_btchw.flatten(0, 1), theirs.decoder_last_hidden_state, atol=1e-5)


@torch.no_grad()
def test_clips_of_a_batch_do_not_see_each_other() -> None:
    network = small_tarvis()
    decoder, neck = network.core.model.pixel_level_module.decoder, network.targets.neck
    both = maps(2, 3)
    together = neck_features(decoder, neck, both, frames=3)
    for n in range(2):
        alone = neck_features(decoder, neck, [x[3 * n : 3 * n + 3] for x in both], frames=3)
        assert torch.allclose(together.mask_features_btchw[n], alone.mask_features_btchw[0], atol=1e-5)
        for level, expected in zip(together.levels, alone.levels, strict=True):
            assert torch.allclose(level[n], expected[0], atol=1e-5)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        pytest.param(pixels(frames=0), "the clip has no frame", id="no frame"),
        pytest.param(pixels(size_hw=(64, 96)), "pictures are 64×96, .* multiples of 64: use padded_pixels", id="size"),
    ],
)
def test_a_clip_that_does_not_fit_is_one_clear_line(clip: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        small_tarvis().features(clip)


def test_windows_want_even_sides() -> None:
    with pytest.raises(InputError, match="the coarsest level is 3×4, but its sides have to be even"):
        windows([(3, 4), (6, 8), (12, 16)])
