"""T5's encoder against `transformers` with the same random weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from alm_cli.checkpoints.keymap import KeyMap
from alm_cli.checkpoints.t5 import t5_keys, t5_sizes
from alm_cli.nn.gated import RelativeBias
from alm_cli.nn.packed import can_pack
from alm_cli.nn.t5 import T5Encoder, T5Spec, round_text

pytestmark = pytest.mark.oracle


def pair(kind: str, factor: float = 3.0) -> tuple[torch.nn.Module, T5Encoder]:
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=3, num_heads=4,
        feed_forward_proj=kind, initializer_factor=factor,
    )  # fmt: skip
    theirs = T5EncoderModel(config).eval()
    ours = T5Encoder(T5Spec(**t5_sizes(config.to_dict(), "text_encoder")))
    weights = theirs.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    own = {name: tuple(tensor.shape) for name, tensor in ours.state_dict().items()}
    plan = KeyMap(*t5_keys("", "")).plan(shapes, own)
    ours.load_state_dict({s.target: s.combine(*(weights[n] for n in s.sources)) for s in plan})
    return theirs, ours.requires_grad_(False).eval()


def batch() -> tuple[Tensor, Tensor]:
    """Texts of 200, 150 and 3 tokens, filled up."""
    ids = torch.randint(1, 50, (3, 200), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(200) < torch.tensor([200, 150, 3])[:, None]
    return ids, mask.long()


@pytest.mark.parametrize("kind", ["relu", "gated-gelu"])
@torch.no_grad()
def test_vectors_are_those_of_transformers(kind: str) -> None:
    theirs, ours = pair(kind)
    ids, mask = batch()
    expected = theirs(ids, attention_mask=mask).last_hidden_state
    found = ours(ids, mask)
    torch.testing.assert_close(found[mask > 0], expected[mask > 0], atol=5e-5, rtol=0)
    assert expected.abs().max() > 3


@torch.no_grad()
def test_what_fills_up_changes_nothing() -> None:
    _, ours = pair("relu")
    ids, mask = batch()
    alone = ours(ids[2:, :3], mask[2:, :3])
    torch.testing.assert_close(ours(ids, mask)[2:, :3], alone, atol=2e-5, rtol=0)
    # A text without anything becomes numbers too, which are of no use.
    assert ours(ids[:1], torch.zeros_like(mask[:1])).isfinite().all()


def test_far_distances_share_buckets() -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    for buckets, furthest in ((32, 128), (8, 20), (64, 500)):
        bias = RelativeBias(1, buckets, furthest)
        bias.weight.data = torch.arange(buckets).float()[:, None]
        distances = torch.arange(-599, 600)
        theirs = T5Attention._relative_position_bucket(
            distances, num_buckets=buckets, max_distance=furthest
        )
        assert torch.equal(bias(600)[0].long(), theirs)


@pytest.mark.skipif(not can_pack(), reason="needs an x86 processor")
@torch.no_grad()
def test_rounded_weights_are_near() -> None:
    _, ours = pair("gated-gelu", 1.0)
    ids, mask = batch()
    exact = ours(ids, mask)
    round_text(ours)
    error = (ours(ids, mask) - exact)[mask > 0]
    assert 0 < error.norm() < 0.05 * exact[mask > 0].norm()
