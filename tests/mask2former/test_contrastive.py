"""The contrastive loss: the specification's golden value (Tube-Link, §4), and the sum that it is."""

import pytest
import torch

from maskstream.mask2former.contrastive import contrastive_loss


def test_golden_value_of_the_contrastive_loss():
    similarity = torch.tensor([[2.0, 0, -1], [0.5, 1, 0]])
    same = torch.tensor([[True, False, False], [False, False, False]])
    assert 0.25 * contrastive_loss(similarity, same).item() == pytest.approx(0.0424615, abs=1e-7)


def test_the_contrastive_loss_is_the_sum_over_all_pairs_of_positives_and_negatives():
    generator = torch.Generator().manual_seed(0)
    similarity = torch.randn(5, 7, generator=generator)
    same = torch.rand(5, 7, generator=generator) < 0.3
    rows = []
    for s, p in zip(similarity, same, strict=True):
        if p.any():
            rows.append(torch.log1p(sum((n - q).exp() for q in s[p] for n in s[~p])))
    assert torch.allclose(contrastive_loss(similarity, same), torch.stack(rows).mean(), atol=1e-6)


def test_without_negatives_there_is_nothing_to_tell_apart():
    assert contrastive_loss(torch.tensor([[3.0]]), torch.tensor([[True]])).item() == 0


def test_differences_count_only_so_much():
    similarity = torch.tensor([[0.0, 30.0, -1.0]])
    same = torch.tensor([[True, False, False]])
    expected = torch.log1p(torch.tensor(10.0).exp() + torch.tensor(-1.0).exp())
    assert torch.allclose(contrastive_loss(similarity, same, most=10.0), expected)


def test_with_a_most_that_nothing_reaches_it_is_the_same():
    generator = torch.Generator().manual_seed(0)
    similarity = torch.randn(5, 7, generator=generator)
    same = torch.rand(5, 7, generator=generator) < 0.3
    assert torch.allclose(contrastive_loss(similarity, same), contrastive_loss(similarity, same, most=100.0), atol=1e-6)


def test_without_positives_there_is_nothing_to_learn():
    similarity = torch.ones(2, 3, requires_grad=True)
    found = contrastive_loss(similarity, torch.zeros(2, 3, dtype=torch.bool))
    found.backward()
    assert found.item() == 0 and similarity.grad is not None and not similarity.grad.any()
