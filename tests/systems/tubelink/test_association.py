"""Linking: what each of its modes is (specification §13.4)."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from maskstream.systems.tubelink.association import LinkLayer


def link_and_queries(queries=7, others=7):
    torch.manual_seed(0)
    link = LinkLayer(16, heads=4, hidden=32).eval()
    for parameter in link.parameters():
        nn.init.normal_(parameter, std=0.5)
    return link, torch.randn(2, queries, 16), torch.randn(2, others, 16)


def after_attention(link, queries, seen):
    linked = link.attention_norm(queries + seen)
    return link.norm(linked + link.contract(F.relu(link.expand(linked))))


@torch.no_grad()
def test_with_slots_every_query_sees_the_one_in_its_place():
    """y = LN(q + W_o (W_v p + b_v) + b_o): softmax over one key is 1."""
    link, queries, others = link_and_queries()
    attention = link.attention
    values = others @ attention.in_proj_weight[32:].T + attention.in_proj_bias[32:]
    seen = values @ attention.out_proj.weight.T + attention.out_proj.bias
    assert torch.allclose(link(queries, others, mode="slot"), after_attention(link, queries, seen), atol=1e-5)


@torch.no_grad()
def test_slots_are_attention_with_queries_for_a_batch():
    """What the authors' program does when it is tested: one query of each to one of each."""
    link, queries, others = link_and_queries()
    apart = link(queries.flatten(0, 1)[:, None], others.flatten(0, 1)[:, None], mode="attention")
    assert torch.allclose(link(queries, others, mode="slot"), apart.view_as(queries), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("others", [7, 4], ids=["as many", "fewer"])
def test_with_attention_every_query_sees_all(others):
    """`nn.MultiheadAttention` with queries before the batch, as the authors have it."""
    link, queries, others_bkc = link_and_queries(others=others)
    theirs = nn.MultiheadAttention(16, 4).eval()
    theirs.load_state_dict(link.attention.state_dict())
    keys = others_bkc.transpose(0, 1)
    seen = theirs(queries.transpose(0, 1), keys, keys)[0].transpose(0, 1)
    assert torch.allclose(link(queries, others_bkc), after_attention(link, queries, seen), atol=1e-5)


@torch.no_grad()
def test_slots_and_attention_are_not_the_same():
    link, queries, others = link_and_queries()
    assert (link(queries, others, mode="slot") - link(queries, others, mode="attention")).abs().max() > 0.1


def test_without_linking_queries_stay_as_they_are():
    link, queries, others = link_and_queries()
    assert link(queries, others, mode="none") is queries
