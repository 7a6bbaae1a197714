"""Llama's layers against `transformers`, and the laws of streams of different lengths."""

from __future__ import annotations

import pytest
import torch

from alm_cli.nn.llama import GatedMLP, Llama, LlamaSpec, Streams
from alm_cli.nn.position import Rotary, Stretch
from alm_cli.nn.state import State

SPEC = LlamaSpec(dimension=64, layers=2, heads=4, kv_heads=2, head_dimension=12, hidden=96)
STRETCH = Stretch(factor=8.0, low=1.0, high=4.0, length=64)


@torch.no_grad()
def stack(spec: LlamaSpec = SPEC) -> Llama:
    """Weights under which everything in it matters; laid out for inference."""
    noise = torch.Generator().manual_seed(0)
    model = Llama(spec, Rotary("halves", 10_000.0, STRETCH))
    for parameter in model.parameters():
        drawn = torch.randn(parameter.shape, generator=noise)
        scale = 1.2 * drawn * parameter.shape[-1] ** -0.5
        parameter.copy_(scale if parameter.dim() > 1 else 1 + 0.1 * drawn)
    return model.eval()


@pytest.mark.oracle
@torch.no_grad()
def test_it_is_the_llama_of_the_library() -> None:
    from transformers import LlamaConfig, LlamaModel

    rope = {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        intermediate_size=96,
        rms_norm_eps=1e-5,
        rope_parameters=rope,
    )
    theirs, ours = LlamaModel(config).eval(), stack()
    names = {"blocks": "layers", "attention.out": "self_attn.o_proj", "mlp_norm": "mlp_n"}
    names |= {"attention_norm": "input_layernorm", "mlp_n": "post_attention_layernorm"}
    names |= {f"attention.{part}": f"self_attn.{part}_proj" for part in "qkv"}
    names |= {f"mlp.{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")}
    weights = {}
    for name, tensor in ours.state_dict().items():
        for part, other in names.items():
            name = name.replace(part, other)
        weights[name] = tensor
    missing = theirs.load_state_dict(weights, strict=False)
    assert missing.missing_keys == ["embed_tokens.weight"] and not missing.unexpected_keys
    x = torch.randn(2, 200, 64)
    expected = theirs(inputs_embeds=x).last_hidden_state
    torch.testing.assert_close(ours(x), expected, atol=1e-4, rtol=0)
    assert not torch.allclose(Llama(SPEC, Rotary("halves")).eval()(x), expected, atol=1e-2)


@torch.no_grad()
def test_a_stream_is_the_whole() -> None:
    model, x, state = stack(), torch.randn(2, 30, 64), State()
    pieces = [model(piece, state) for piece in x.split([11, 1, 1, 17], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), model(x), atol=1e-5, rtol=0)


@torch.no_grad()
def test_streams_of_different_lengths_go_on_together() -> None:
    model = stack()
    rows = [torch.randn(1, length, 64) for length in (9, 3, 31)]
    states = [State() for _ in rows]
    for row, state in zip(rows, states, strict=True):
        model(row[:, :-2], state)
    for back in (2, 1):
        new = torch.cat([row[:, row.shape[1] - back :][:, :1] for row in rows])
        y = model(new, Streams(states))
    whole = torch.cat([model(row)[:, -1:] for row in rows])
    torch.testing.assert_close(y, whole, atol=1e-5, rtol=0)


@torch.no_grad()
def test_in_as_many_rows_a_row_does_not_depend_on_the_others() -> None:
    """To the last bit: empty rows fill up; one stream may leave, another may come."""
    model = stack(
        LlamaSpec(dimension=256, layers=2, heads=4, kv_heads=2, head_dimension=64, hidden=512)
    )
    starts = [torch.randn(1, length, 256) for length in (3, 8, 5, 40)]
    x = torch.randn(4, 1, 256)

    def said(rows: list[int]) -> torch.Tensor:
        states = [State() for _ in rows]
        for row, state in zip(rows, states, strict=True):
            model(starts[row], state)
        filled = torch.cat((x[rows], torch.zeros(4 - len(rows), 1, 256)))
        return model(filled, Streams(states))[: len(rows)]

    every = said([0, 1, 2, 3])
    for rows in ([1], [3, 2], [3, 1, 0], [2, 3, 1, 0]):
        assert torch.equal(said(rows), every[rows])


@torch.no_grad()
def test_what_fills_up_hears_nothing_and_is_not_remembered() -> None:
    model, state = stack(), State()
    model(torch.randn(1, 5, 64), state)
    y = model(torch.zeros(4, 1, 64), Streams([state]))
    assert torch.equal(y[1], y[2]) and not y[1:].any()
    caches = dict(state.memories()).values()
    assert {cache.length for cache in caches} == {6}


@torch.no_grad()
def test_the_gate_is_written_out() -> None:
    part, x = GatedMLP(6, 10), torch.randn(3, 6)
    gate, up = x @ part.gate.weight.T, x @ part.up.weight.T
    expected = (gate * torch.sigmoid(gate) * up) @ part.down.weight.T
    torch.testing.assert_close(part(x), expected)
