"""What queries answer for every task (specification §7 and 17)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from maskstream.mask2former.network import ClipFeatures, ClipMask2Former
from maskstream.systems.tarvis.network import (
    TarViSConfig,
    TarViSNetwork,
    padded_pixels,
    read_tarvis,
    save_tarvis,
)
from maskstream.systems.tarvis.targets import ObjectQueries
from maskstream.types import InputError

from ...mask2former.networks import small_network
from .networks import CHANNELS, INSTANCES, SPACES, drawn, pixels, small_tarvis

FRAMES = 3
POINTS = ("encoder.begin.", "encoder.scales.")
"""Parts that only points need."""


def clip(batch: int = 2, seed: int = 1) -> ClipFeatures:
    """Of frames of 64 × 128 pixels."""
    levels = tuple(drawn(batch, FRAMES, CHANNELS, 64 // s, 128 // s, seed=seed + s) for s in (32, 16, 8))
    return ClipFeatures(levels, drawn(batch, FRAMES, CHANNELS, 16, 32, seed=seed))


def masks() -> Tensor:
    """Two objects on all frames."""
    found = torch.zeros(2, FRAMES, 64, 128, dtype=torch.bool)
    found[0, :, 5:30, 8:60] = found[1, :, 32:60, 70:120] = True
    return found


def encoded(network: TarViSNetwork, features: ClipFeatures) -> list[ObjectQueries]:
    return [network.encode(x_tchw, masks()) for x_tchw in features.mask_features_btchw]


@torch.no_grad()
def test_categories_have_a_tube_of_each_query() -> None:
    network = small_tarvis()
    for name, classes in SPACES.items():
        stages = network.categories(clip(), name, every_stage=True)
        assert len(stages) == 4
        for stage in stages:
            assert stage.instances.classes_bqc.shape == (2, INSTANCES, classes + 1)
            assert stage.instances.masks_bqthw.shape == (2, INSTANCES, FRAMES, 16, 32)
            assert stage.semantic_bkthw.shape == (2, classes, FRAMES, 16, 32)
            assert stage.background_bthw.shape == (2, FRAMES, 16, 32)
        (last,) = network.categories(clip(), name)
        assert torch.allclose(last.instances.masks_bqthw, stages[-1].instances.masks_bqthw, atol=1e-4)


@torch.no_grad()
def test_a_class_is_the_product_of_an_instance_and_a_class_and_nothing_is_last() -> None:
    network = small_tarvis(background=2)
    features = clip(1)
    first = network.categories(features, "shapes", every_stage=True)[0]
    targets, module = network.targets, network.core.model.transformer_module
    instances, background, classes = (
        targets.class_embedders[kind](module.decoder.layernorm(rows))
        for kind, rows in (
            ("instance", module.queries_features.weight),
            ("background", targets.background),
            ("semantic", targets.semantic["shapes"]),
        )
    )
    for q in range(INSTANCES):
        products = [float(instances[q] @ row) for row in classes]
        nothing = max(float(instances[q] @ row) for row in background)
        assert first.instances.classes_bqc[0, q].tolist() == pytest.approx([*products, nothing], abs=1e-4)


@torch.no_grad()
def test_instances_alone_are_those_of_mask2former() -> None:
    """With the code of each query, if no other group is there."""
    network = small_tarvis()
    module = network.core.model.transformer_module
    module.queries_embedder.weight.copy_(network.targets.codes["instance"].expand(INSTANCES, -1))
    expected = ClipMask2Former(network.core).decode(clip(), every_stage=True)
    stages, _ = network._decode(
        clip(), {"instance": module.queries_features.weight.expand(2, -1, -1)}, every_stage=True
    )
    for ours, theirs in zip(stages, expected, strict=True):
        assert ours.masks_bqthw is not None
        assert torch.allclose(ours.masks_bqthw, theirs.masks_bqthw, atol=1e-5)


@torch.no_grad()
def test_every_group_is_embedded_by_its_own_network() -> None:
    network = small_tarvis()
    before = network.categories(clip(), "shapes", every_stage=True)[0]
    network.targets.mask_embedders["semantic"].get_parameter("4.bias").add_(1)
    after = network.categories(clip(), "shapes", every_stage=True)[0]
    assert torch.equal(before.instances.masks_bqthw, after.instances.masks_bqthw)
    assert torch.equal(before.background_bthw, after.background_bthw)
    added = clip().mask_features_btchw.sum(2)[:, None].expand_as(after.semantic_bkthw)
    assert torch.allclose(after.semantic_bkthw - before.semantic_bkthw, added, atol=1e-4)


@pytest.mark.parametrize("group", ["instance", "background", "semantic"])
@torch.no_grad()
def test_groups_see_each_other(group: str) -> None:
    network = small_tarvis()
    before = network.categories(clip(), "shapes")[0]
    network.targets.codes[group].add_(1)
    after = network.categories(clip(), "shapes")[0]
    for name in ("semantic_bkthw", "background_bthw"):
        assert (getattr(before, name) - getattr(after, name)).abs().max() > 1e-4
    assert (before.instances.classes_bqc - after.instances.classes_bqc).abs().max() > 1e-4


@torch.no_grad()
def test_label_spaces_do_not_see_each_other() -> None:
    network = small_tarvis()
    before = network.categories(clip(), "shapes")[0]
    network.targets.semantic["colours"].add_(1)
    after = network.categories(clip(), "shapes")[0]
    assert torch.equal(before.instances.classes_bqc, after.instances.classes_bqc)
    assert torch.equal(before.semantic_bkthw, after.semantic_bkthw)


@torch.no_grad()
def test_objects_have_a_mask_each() -> None:
    network = small_tarvis()
    features = clip()
    queries = encoded(network, features)
    stages = network.objects(features, queries, every_stage=True)
    assert len(stages) == 4
    assert stages[-1].masks_bnthw.shape == (2, 2, FRAMES, 16, 32)
    assert stages[-1].background_bthw.shape == (2, FRAMES, 16, 32)
    embed = network.targets.mask_embedders["object"]
    normed = network.core.model.transformer_module.decoder.layernorm(queries[1].objects_qc)
    each = torch.einsum("qc,tchw->qthw", embed(normed), features.mask_features_btchw[1])
    for n, of_object in enumerate((each[:4], each[4:])):
        assert torch.allclose(stages[0].masks_bnthw[1, n], of_object.amax(0), atol=1e-4)
    (alone,) = network.objects(features, queries)
    assert torch.allclose(alone.masks_bnthw, stages[-1].masks_bnthw, atol=1e-4)


def test_objects_have_fewer_queries_in_training() -> None:
    network = small_tarvis()
    features = clip()
    assert [x.counts for x in encoded(network, features)] == [(4, 4), (4, 4)]
    network.train()
    assert [x.counts for x in encoded(network, features)] == [(2, 2), (2, 2)]


@torch.no_grad()
def test_one_network_does_all_tasks_in_turn() -> None:
    network = small_tarvis()
    weights = {name: x.clone() for name, x in network.state_dict().items()}
    features = network.features(pixels())
    first = network.categories(features, "shapes")[0]
    network.objects(features, [network.encode(features.mask_features_btchw[0], masks()[:, :2])])
    network.categories(features, "colours")
    assert torch.equal(network.categories(features, "shapes")[0].semantic_bkthw, first.semantic_bkthw)
    assert all(torch.equal(x, weights[name]) for name, x in network.state_dict().items())


def test_all_that_is_added_can_be_trained() -> None:
    network = small_tarvis().train()
    features = network.features(pixels())
    category, objects = (
        network.categories(features, "shapes")[0],
        network.objects(features, [network.encode(features.mask_features_btchw[0], masks()[:, :2])])[0],
    )
    found = (category.instances.classes_bqc, category.semantic_bkthw, category.background_bthw, objects.masks_bnthw)
    sum(x.square().mean() for x in (*found, objects.background_bthw)).backward()  # type: ignore[union-attr]
    missing = {name for name, x in network.targets.named_parameters() if x.grad is None}
    assert {name.split(".")[0] for name in missing} == {"semantic", "encoder"}
    assert all(name == "semantic.colours" or "point" in name or name.startswith(POINTS) for name in missing)


def test_pictures_are_padded_with_grey() -> None:
    frames = torch.full((1, 1, 3, 100, 70), 200, dtype=torch.uint8)
    found = padded_pixels(frames)
    assert found.shape == (1, 1, 3, 128, 128)
    assert found[0, 0, 0, 99, 69].item() == pytest.approx((200 - 123.675) / 58.395, abs=1e-5)
    assert found[0, 0, 2, 100, 70].item() == pytest.approx((128 - 103.53) / 57.375, abs=1e-5)


# Mistakes.


def test_what_cannot_be_asked_for_is_one_clear_line() -> None:
    network = small_tarvis()
    features = clip()
    queries = encoded(network, features)
    with pytest.raises(InputError, match="knows no label space animals: give one of shapes, colours"):
        network.categories(features, "animals")
    with pytest.raises(InputError, match=r"2 clips, but queries \[\(4, 4\)\]: encode the objects of each clip"):
        network.objects(features, queries[:1])
    fewer = network.encode(features.mask_features_btchw[0], masks()[:1])
    with pytest.raises(InputError, match=r"\[\(4,\), \(4, 4\)\]"):
        network.objects(features, [fewer, queries[1]])
    nobody = network.encode(features.mask_features_btchw[0], masks()[:0])
    with pytest.raises(InputError, match="there is no object: give a mask or a point"):
        network.objects(features, [nobody, nobody])


@pytest.mark.parametrize(
    ("spaces", "classes", "message"),
    [
        pytest.param(("shapes",), (0,), "give each at least one", id="no class"),
        pytest.param(("shapes", "colours"), (3,), "give each at least one", id="a number is missing"),
        pytest.param(("v1.0",), (3,), r"label space v1\.0 has a dot", id="a dot"),
    ],
)
def test_label_spaces_are_checked(spaces: tuple[str, ...], classes: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TarViSNetwork(small_network(), TarViSConfig(label_spaces=spaces, classes=classes))


# Folders.


@torch.no_grad()
def test_a_network_is_read_as_it_was_written(tmp_path) -> None:
    network = small_tarvis(background=2, frames=6)
    save_tarvis(network, tmp_path, short_side=64)
    read = read_tarvis(tmp_path)
    assert read.config == network.config
    assert not read.training and not any(parameter.requires_grad for parameter in read.parameters())
    theirs, ours = (n.categories(n.features(pixels()), "colours")[0] for n in (network, read))
    assert torch.allclose(theirs.instances.masks_bqthw, ours.instances.masks_bqthw, atol=1e-5)
    assert torch.allclose(theirs.instances.classes_bqc, ours.instances.classes_bqc, atol=1e-5)


def test_a_folder_that_is_no_tarvis_is_said_so(tmp_path) -> None:
    network = small_tarvis()
    network.core.save_pretrained(tmp_path / "core")
    with pytest.raises(InputError, match="is a Mask2Former without targets"):
        read_tarvis(tmp_path / "core")
    with pytest.raises(InputError, match="is not there"):
        read_tarvis(tmp_path / "nothing")
    save_tarvis(network, tmp_path / "other", short_side=64)
    settings = tmp_path / "other" / "tarvis.json"
    settings.write_text(settings.read_text().replace('"background": 1', '"background": 3'))
    with pytest.raises(InputError, match=r"is of another network than tarvis\.json says"):
        read_tarvis(tmp_path / "other")
