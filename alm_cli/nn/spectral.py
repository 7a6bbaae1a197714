"""Log-magnitude spectra of audio, and audio from them, as causal, streaming parts.

Phases are not coded. The synthesis continues them from frame to frame, after Beauregard, Harish and
Wyse, "Single pass spectrogram inversion" (DSP 2015): every spectral peak advances by its own
frequency and the bins around it follow (the phase locking of Laroche and Dolson, 1999). From the
magnitudes of read speech this gives PESQ 3.5, and no network has to learn what an angle is.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor, nn

from alm_cli.nn.state import State

# Spectra quieter than this (-60 dB of one sample's full scale) are silence.
_FLOOR = 1e-6
# A logarithm of energy times this is of the order of 1, and its exponential is |X|^0.3.
LOG_SCALE = 0.15


class Analysis(nn.Module):
    """Windowed spectra that look only back: frame i ends with sample (i + 1) * hop."""

    window: Tensor

    def __init__(self, size: int, hop: int) -> None:
        super().__init__()
        self.size, self.hop = size, hop
        self.register_buffer("window", torch.hann_window(size), persistent=False)

    @property
    def features(self) -> int:
        """Numbers per frame."""
        return self.size // 2 + 1

    def forward(self, wave: Tensor, state: State | None = None) -> Tensor:
        """wave [B, F * hop] -> scaled log-energies [B, F, features]."""
        context = wave.new_zeros(wave.shape[0], self.size - self.hop)
        if state is not None:
            context = state.get(self, lambda: context)
        wave = torch.cat([context, wave], dim=1)
        if state is not None:
            state.put(self, wave[:, wave.shape[1] - context.shape[1] :].clone())
        spectra = torch.fft.rfft(wave.float().unfold(1, self.size, self.hop) * self.window)
        energy = spectra.real.square() + spectra.imag.square()
        return (energy + _FLOOR).log() * LOG_SCALE


class Synthesis(nn.Module):
    """Waves whose spectra have given magnitudes; sample j is final with frame j // hop.

    Which bins are peaks is a decision, so a rounding error can change what follows: compute the
    input in double precision wherever chunks must equal the whole.
    """

    window: Tensor

    def __init__(self, size: int, hop: int) -> None:
        super().__init__()
        if size % hop:
            raise ValueError("the window must be a whole number of hops")
        self.size, self.hop = size, hop
        self.phases = Phases(size, hop)
        window = torch.hann_window(size)
        overlap = window.square().view(-1, hop).sum(0)  # constant where the hop divides the window
        self.register_buffer("window", window / overlap.mean(), persistent=False)

    @property
    def features(self) -> int:
        """Numbers per frame."""
        return self.size // 2 + 1

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """x [B, F, features]: scaled log-energies -> wave [B, F * hop]."""
        # The bounds keep an untrained or broken network from overflowing.
        logs = x.nan_to_num().clamp(-4.0, 2.5) / (2 * LOG_SCALE)
        phases = self.phases(logs, state)
        # Phases are relative to the middle of the window, where all bins of a partial agree.
        middle = pi * torch.arange(self.features, device=x.device)
        spectra = torch.polar(logs.exp(), phases - middle)
        frames = torch.fft.irfft(spectra, n=self.size) * self.window
        return self._overlap_add(frames, state)

    def _overlap_add(self, frames: Tensor, state: State | None) -> Tensor:
        """frames [B, F, size] -> wave [B, F * hop]."""
        batch, count, _ = frames.shape
        pieces = frames.view(batch, count, -1, self.hop)
        overlaps = pieces.shape[2]
        total = frames.new_zeros(batch, count + overlaps - 1, self.hop)
        for i in range(overlaps):
            total[:, i : i + count] += pieces[:, :, i]
        if state is not None:
            tail = state.get(self, lambda: frames.new_zeros(batch, overlaps - 1, self.hop))
            total[:, : overlaps - 1] += tail
            state.put(self, total[:, count:].clone())
        return total[:, :count].flatten(1)


class Phases(nn.Module):
    """Phases that continue every partial: a peak advances by its frequency, its bins follow."""

    def __init__(self, size: int, hop: int) -> None:
        super().__init__()
        self.per_bin = 2 * pi * hop / size

    def forward(self, logs: Tensor, state: State | None = None) -> Tensor:
        """Log-magnitudes [B, F, bins] -> phases [B, F, bins] in the middle of each frame."""
        peaks, frequencies = _partials(logs)
        advances = frequencies * self.per_bin
        phase = logs.new_zeros(logs.shape[0], logs.shape[2])
        if state is not None:
            phase = state.get(self, lambda: phase)
        found = []
        for peak, advance in zip(peaks.unbind(1), advances.unbind(1), strict=True):
            phase = torch.remainder(phase.gather(1, peak) + advance, 2 * pi)
            found.append(phase)
        if state is not None:
            state.put(self, phase)
        return torch.stack(found, 1)


def _partials(logs: Tensor) -> tuple[Tensor, Tensor]:
    """Log-magnitudes [..., bins] -> for each bin its nearest peak and the frequency of that.

    The frequency is the vertex of the parabola through a peak and its two neighbours.
    """
    bins = logs.shape[-1]
    number = torch.arange(bins, device=logs.device).expand(logs.shape)
    lower = torch.cat([logs[..., :1] - 1, logs[..., :-1]], -1)
    upper = torch.cat([logs[..., 1:], logs[..., -1:] - 1], -1)
    is_peak = (logs >= lower) & (logs > upper)
    below = torch.where(is_peak, number, -2 * bins).cummax(-1).values
    above = torch.where(is_peak, number, 3 * bins).flip(-1).cummin(-1).values.flip(-1)
    peak = torch.where(number - below <= above - number, below, above)
    curvature = (2 * logs - lower - upper).clamp(min=1e-6)
    offset = ((upper - lower) / (2 * curvature)).clamp(-0.5, 0.5)
    return peak, peak + offset.gather(-1, peak)
