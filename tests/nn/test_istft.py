"""The inverse transform at the end of a network, against the obvious sum, and its laws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from alm_cli.nn.istft import ISTFTHead
from alm_cli.nn.state import State
from tests.laws import batch_equals_single


def head(size: int = 32, hop: int = 8, dimension: int = 6) -> ISTFTHead:
    torch.manual_seed(size)
    return ISTFTHead(dimension, size, hop).requires_grad_(False)


def slow(part: ISTFTHead, x: Tensor) -> Tensor:
    """One frame after the other, in double precision, trimmed to "same" at the end."""
    window = torch.hann_window(part.size).double()
    length = (x.shape[1] - 1) * part.hop + part.size
    total, envelope = torch.zeros(x.shape[0], length).double(), torch.zeros(length).double()
    for frame in range(x.shape[1]):
        logs, phases = part.out(x[:, frame]).double().chunk(2, -1)
        spectrum = logs.exp().clamp(max=100) * torch.exp(1j * phases)
        place = slice(frame * part.hop, frame * part.hop + part.size)
        total[:, place] += torch.fft.irfft(spectrum, part.size) * window
        envelope[place] += window**2
    trimmed = slice((part.size - part.hop) // 2, length - (part.size - part.hop) // 2)
    return (total[:, trimmed] / envelope[trimmed])[:, None].float()


@pytest.mark.parametrize(("size", "hop"), [(32, 8), (24, 8), (12, 4), (1280, 320)])
def test_it_equals_one_frame_after_the_other(size: int, hop: int) -> None:
    part = head(size, hop)
    for frames in (1, 2, 3, 4, 5, 9):
        x = torch.randn(2, frames, 6)
        wave = part(x)
        assert wave.shape == (2, 1, frames * hop)
        torch.testing.assert_close(wave, slow(part, x), atol=2e-6, rtol=0)


def test_trap_same_padding_is_not_the_centring_of_torch() -> None:
    """torch.istft trims half a window on either side, and so a hop less than it is given."""
    part, x = head(), torch.randn(1, 9, 6)
    logs, phases = part.out(x).chunk(2, -1)
    spectra = torch.polar(logs.exp(), phases).mT
    theirs = torch.istft(spectra, 32, 8, 32, torch.hann_window(32), center=True)
    assert theirs.shape[-1] == 8 * 8
    # The same signal four samples (half a hop) later, away from the edges.
    torch.testing.assert_close(part(x)[0, 0, 28:60], theirs[0, 24:56], atol=1e-5, rtol=0)


def test_trap_magnitudes_are_bounded_at_a_hundred() -> None:
    part = head()
    part.out.weight.zero_()
    part.out.bias.zero_()
    part.out.bias[:17] = 4.0
    quiet = part(torch.zeros(1, 5, 6))
    part.out.bias[:17] = 80.0
    loud = part(torch.zeros(1, 5, 6))
    torch.testing.assert_close(loud, quiet * 100 / torch.tensor(4.0).exp(), atol=1e-3, rtol=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_chunking_equals_the_whole(data: st.DataObject) -> None:
    hop, overlaps = data.draw(st.sampled_from([2, 4, 6])), data.draw(st.integers(2, 4))
    part = head(hop * overlaps, hop)
    sizes = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=8))
    x, state, made = torch.randn(2, sum(sizes), 6), State(), []
    for index, piece in enumerate(x.split(sizes, 1), 1):
        state.last = index == len(sizes)
        made.append(part(piece, state))
    torch.testing.assert_close(torch.cat(made, -1), part(x), atol=1e-5, rtol=0)


def test_a_stream_owes_the_overhang_until_its_end() -> None:
    part, x, state = head(), torch.randn(1, 9, 6), State()
    assert part(x, state).shape[-1] == 9 * 8 - 12
    state.last = True
    assert part(x[:, :0], state).shape[-1] == 12


def test_the_past_does_not_change_when_the_future_arrives() -> None:
    part, x = head(), torch.randn(1, 20, 6)
    changed = torch.cat((x[:, :12], torch.randn(1, 8, 6)), 1)
    settled = 12 * 8 - 12
    assert torch.equal(part(x)[..., :settled], part(changed)[..., :settled])
    assert not torch.equal(part(x)[..., settled:], part(changed)[..., settled:])


def test_a_row_does_not_see_its_neighbours() -> None:
    batch_equals_single(head(), torch.randn(3, 20, 6))


def test_nothing_in_is_nothing_out() -> None:
    assert head()(torch.zeros(2, 0, 6)).shape == (2, 1, 0)


def test_training_reaches_the_layer() -> None:
    part = head().requires_grad_(True)
    part(torch.randn(1, 7, 6)).square().sum().backward()
    assert part.out.weight.grad is not None and part.out.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("size", "hop"), [(30, 8), (8, 8), (10, 5)])
def test_a_window_that_does_not_fit_its_hop_is_refused(size: int, hop: int) -> None:
    with pytest.raises(ValueError, match="hops"):
        ISTFTHead(4, size, hop)
