"""Packed weights: half floats change nothing, 8 bits little."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from alm_cli.errors import UsageError
from alm_cli.nn.attention import Attention
from alm_cli.nn.linear import Linear
from alm_cli.nn.packed import (
    HalfLinear,
    Int8Linear,
    SteadyHalfLinear,
    SteadyInt8Linear,
    _largest_pair,
    can_pack,
    pack_exactly,
    pack_int8,
)
from alm_cli.nn.rounded import largest, rounded_rows
from alm_cli.nn.state import State
from alm_cli.nn.transformer import MLP

pytestmark = pytest.mark.skipif(not can_pack(), reason="torch packs weights on x86 only")


def weights(outputs: int, inputs: int) -> Tensor:
    """[E, D], half floats."""
    generator = torch.Generator().manual_seed(outputs)
    return (torch.randn(outputs, inputs, generator=generator) / inputs**0.5).half().float()


@pytest.mark.parametrize("shape", [(1, 24), (5, 24), (2, 3, 24), (40, 24)])
@pytest.mark.parametrize("outputs", [1, 7, 16, 300])
@pytest.mark.parametrize("biased", [True, False])
def test_products_of_half_floats_are_exact(
    shape: tuple[int, ...], outputs: int, biased: bool
) -> None:
    weight, x = weights(outputs, 24), torch.randn(shape)
    bias = torch.randn(outputs) if biased else None
    made = HalfLinear(weight, bias)(x)
    torch.testing.assert_close(made, nn.functional.linear(x, weight, bias), atol=1e-5, rtol=1e-5)
    assert made.dtype == torch.float32 and made.shape == (*shape[:-1], outputs)


@pytest.mark.parametrize("biased", [True, False])
def test_eight_bits_are_near_and_rows_have_scales_of_their_own(biased: bool) -> None:
    weight, x = weights(64, 512), torch.randn(12, 512)
    bias = torch.randn(64) if biased else None
    sizes = torch.logspace(-3, 3, 12)[:, None]
    exact = nn.functional.linear(x, weight)
    made = Int8Linear(weight, bias)(x * sizes)
    rough = (made if bias is None else made - bias) / sizes
    # Beside the bias little is left of the smallest rows.
    errors = (rough - exact).norm(dim=1)[1 if biased else 0 :] / exact.norm(dim=1).mean()
    assert float(errors.max()) < 0.03
    few = Int8Linear(weight, bias)(x[:3])
    expected = exact[:3] if bias is None else exact[:3] + bias
    assert float((few - expected).norm() / expected.norm()) < 0.03


def test_nothing_and_zeros() -> None:
    part = Int8Linear(torch.zeros(4, 8), torch.ones(4))
    assert torch.equal(part(torch.zeros(2, 8)), torch.ones(2, 4))
    assert torch.equal(part(torch.randn(2, 8)), torch.ones(2, 4))


def test_trap_large_weights_and_vectors_do_not_overflow() -> None:
    """Two products of 8-bit numbers do not fit 16 bits where both weights are the largest."""
    part = Int8Linear(torch.full((2, 64), 3.0), None)
    x = torch.ones(1, 64)
    x[0, 0] = -1
    torch.testing.assert_close(part(x), torch.full((1, 2), 186.0), atol=2.0, rtol=0)


@pytest.mark.parametrize("inputs", [7, 64, 1025])
@pytest.mark.parametrize("four", [False, True])
def test_trap_no_neighbours_overflow(
    inputs: int, four: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest vectors, whose numbers lie beside large weights: only rounding is to be seen."""
    if four and not torch.cpu._is_vnni_supported():
        pytest.skip("this processor has no instruction for four products")
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: four)
    generator = torch.Generator().manual_seed(inputs)
    weight = torch.randn(40, inputs, generator=generator)
    weight[:10] = weight[:10].sign()
    weight[10:20, ::2] = 4.0
    part = Int8Linear(weight, None)
    rounded, scales = rounded_rows(weight, largest if four else _largest_pair)
    kept = rounded.float() * scales[:, None]
    for x in (torch.rand(2, inputs, generator=generator), torch.ones(2, inputs)):
        x[0, 0] = -0.01
        step = (x.max() - x.min()) / 255
        error = (part(x) - nn.functional.linear(x, kept)).abs()
        assert bool((error <= kept.abs().sum(1) * step * 0.51 + 1e-4).all())


def test_vectors_have_eight_bits() -> None:
    """With 7, and weights that need not make room for it, the error is 1.9 %."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(256, 1024, generator=generator)
    for rows in (2, 20):
        x = torch.randn(rows, 1024, generator=generator)
        exact = nn.functional.linear(x, weight)
        error = (Int8Linear(weight, None)(x) - exact).norm() / exact.norm()
        assert 0.005 < float(error) < 0.016


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(("kind", "near"), [(SteadyHalfLinear, 1e-5), (SteadyInt8Linear, 0.05)])
@torch.no_grad()
def test_a_row_is_the_same_beside_any_others(
    kind: type[SteadyHalfLinear | SteadyInt8Linear], near: float, biased: bool
) -> None:
    weight, x = weights(96, 512), torch.randn(130, 512) * torch.rand(130, 1)
    bias = torch.randn(96) if biased else None
    steady, plain = kind(weight, bias), HalfLinear(weight, bias)
    alone = torch.cat([steady(row[None]) for row in x])
    assert all(torch.equal(steady(x[:count]), alone[:count]) for count in range(1, 131))
    torch.testing.assert_close(alone, plain(x), atol=near, rtol=near)
    assert torch.equal(steady(x[:2].view(2, 1, 512)), alone[:2, None])


class Model(nn.Module):
    """A part of every kind that is packed."""

    def __init__(self, exact: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = Attention(32, 4, bias=True, key_bias=False, causal=True)
        self.mlp = MLP(32, 64, bias=True)
        for part in self.modules():
            if isinstance(part, Linear):
                weight = weights(*part.weight.shape)
                part.weight.data = weight if exact else weight * 1.0001

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, S, D] -> [B, S, D]."""
        return self.mlp(self.attention(x, state=state))


@torch.no_grad()
def test_a_model_of_half_floats_is_packed_and_remains_what_it_was() -> None:
    model, x = Model().eval(), torch.randn(2, 9, 32)
    before = model(x)
    assert pack_exactly(model)
    assert not [part for part in model.modules() if isinstance(part, Linear)]
    torch.testing.assert_close(model(x), before, atol=1e-5, rtol=1e-5)
    state = State()
    steps = torch.cat([model(part, state) for part in x.split([4, 1, 4], 1)], 1)
    torch.testing.assert_close(steps, before, atol=1e-5, rtol=1e-5)
    model.eval()
    torch.testing.assert_close(model(x), before, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_other_models_are_left_alone() -> None:
    model = Model(exact=False).eval()
    assert not pack_exactly(model)
    assert not pack_exactly(Model().eval().bfloat16())
    assert len([part for part in model.modules() if isinstance(part, Linear)]) == 6


@torch.no_grad()
def test_any_model_is_rounded_to_eight_bits() -> None:
    model, x = Model(exact=False).eval(), torch.randn(2, 9, 32)
    before = model(x)
    pack_int8(model)
    error = (model(x) - before).norm() / before.norm()
    assert 1e-4 < float(error) < 0.05


def test_machines_without_such_products_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alm_cli.nn.packed.can_pack", lambda: False)
    assert not pack_exactly(Model().eval())
    with pytest.raises(UsageError, match="int8 needs an x86 processor"):
        pack_int8(Model().eval())
