"""What Whisper hears: windows of a recording of any length as log-mel spectra, in steady memory.

The spectra are brought to a range that hangs on the loudest band of the whole recording; so it is
read twice, first to find that. Of what is short enough the first pass is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import tee
from math import inf
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from alm_cli.nn.log_mel import HOP, SILENCE, LogMel, floored
from alm_cli.nn.state import State
from alm_cli.systems.transcriber import RATE, Recording

if TYPE_CHECKING:
    from alm_cli.systems.activity import Activity

FRAMES_PER_S = RATE // HOP
WINDOW_FRAMES = 30 * FRAMES_PER_S
# So many frames after the end of a recording still hear some of it.
_ECHO = 3
# Samples whose spectra are computed at a time, and frames that are kept from the first pass.
_BLOCK = 200 * HOP
_KEPT_FRAMES = 600 * FRAMES_PER_S
# A pause is looked for in stretches of so many frames.
_PAUSE_FRAMES = 20


class Windows:
    """The windows of one recording, in any order, but cheap only while they ascend.

    `once`: the recording is read once and as far as needed; then the range hangs on the loudest
    band of each window, and the length is known only at the end. `speech` are the seconds from
    which to which somebody speaks, in order, where there is an `activity` to find out.
    """

    def __init__(
        self,
        recording: Recording,
        bands: int,
        *,
        device: torch.device,
        once: bool = False,
        activity: Activity | None = None,
    ) -> None:
        self._recording, self._bands, self._device = recording, bands, device
        self._loudest: float | None = None
        self._length: int | None = None
        self.speech: Iterable[tuple[float, float]] | None = None
        blocks: Iterable[NDArray[np.float32]] = recording()
        if activity is not None:
            # Both go through the recording side by side, so little waits for the other.
            blocks, others = tee(blocks)
        self._pass = self._begun(blocks)
        if once and activity is not None:
            self.speech = activity.spans(others, live=True)
        elif activity is not None:
            self.speech = list(activity.spans(_along(others, self._pass)))
        if not once:
            self._pass.measure(inf)
            self._length, self._loudest = self._pass.frames, self._pass.loudest

    def length(self, at_least: float = inf) -> int:
        """Frames of the recording, of 10 ms; or `at_least` so many, where there are more."""
        if self._length is not None:
            return self._length
        self._pass.read(at_least)
        return self._pass.frames

    def window(self, begin: int, frames: int) -> Tensor:
        """[M, 3000]: so many frames of content, then 0.0.

        _compat_padding: 0.0 is not silence in this range, but that is what `openai-whisper` puts
        after the content of a window that it transcribes.
        """
        spectra = self._ranged(self._logs(begin, begin + frames))
        return F.pad(spectra, (0, WINDOW_FRAMES - spectra.shape[1]))

    def opening(self) -> Tensor:
        """[M, 3000]: the first 30 s, with silence after a shorter recording.

        _compat_opening: `openai-whisper` tells the language from other padding than the text.
        """
        logs = self._logs(0, WINDOW_FRAMES)
        return self._ranged(F.pad(logs, (0, WINDOW_FRAMES - logs.shape[1]), value=SILENCE))

    def quietest(self, begin: int, end: int) -> int:
        """The middle of the quietest fifth of a second between two frames, or `end`."""
        logs = self._logs(begin, end)
        if logs.shape[1] < _PAUSE_FRAMES:
            return end
        means = F.avg_pool1d(logs.mean(0)[None], _PAUSE_FRAMES, 1)[0]
        return begin + int(means.argmin()) + _PAUSE_FRAMES // 2

    def forget(self, before: int) -> None:
        """Say that no window will begin before a frame; if one does, all is read again."""
        self._pass.forget(before)

    def _logs(self, begin: int, end: int) -> Tensor:
        if begin < self._pass.begin:
            self._pass = self._begun(self._recording())
            self._pass.forget(begin)
        return self._pass.cut(begin, end)

    def _ranged(self, logs: Tensor) -> Tensor:
        loudest = self._loudest
        if loudest is None:
            loudest = float(logs.amax()) if logs.numel() else SILENCE
        return floored(logs, loudest)

    def _begun(self, blocks: Iterable[NDArray[np.float32]]) -> _Pass:
        return _Pass(blocks, self._bands, self._device)


class _Pass:
    """One reading of a recording: spectra from frame `begin` on, as far as has been read."""

    def __init__(
        self, blocks: Iterable[NDArray[np.float32]], bands: int, device: torch.device
    ) -> None:
        self.begin = 0
        self.loudest = SILENCE
        self._ended = False
        self._wanted = 0
        self._samples = self._known = 0  # of the recording, so far
        self._blocks = _even(blocks)
        self._log_mel = LogMel(bands).to(device)
        self._state, self._device = State(), device
        self._spectra: list[Tensor] = []  # [M, F] each

    @property
    def frames(self) -> int:
        """Frames of content that are known; all there are, once it has ended."""
        return self._samples // HOP if self._ended else self._known

    def read(self, until: float) -> None:
        """Read until so many frames are known, or all."""
        while self._known < until and not self._ended:
            self._next()

    def measure(self, until: float) -> None:
        """Read on for the loudest band alone; of long recordings nothing is kept."""
        while self._known < until and not self._ended:
            new = self._next()
            self.loudest = max(self.loudest, float(new.amax()) if new.numel() else SILENCE)
            if self._known > _KEPT_FRAMES:
                self.forget(self._known)

    def forget(self, before: int) -> None:
        """Let go of the blocks that end before a frame, and of those that will."""
        self._wanted = before
        while self._spectra and self.begin + self._spectra[0].shape[1] <= before:
            self.begin += self._spectra.pop(0).shape[1]

    def cut(self, begin: int, end: int) -> Tensor:
        """[M, F]: from frame to frame, but not beyond the echo of the recording in silence."""
        self.read(end)
        parts, at = [], self.begin
        for block in self._spectra:
            parts.append(block[:, max(0, begin - at) : max(0, end - at)])
            at += block.shape[1]
        return torch.cat(parts, 1) if parts else self._none()

    def _next(self) -> Tensor:
        """Read a block, or at the end the echo: the new spectra [M, F]."""
        block = next(self._blocks, None)
        if block is None:
            self._ended = True
            # _compat_echo: the last frames hear the silence after the recording, no mirror image.
            block = np.zeros((_ECHO + 2) * HOP, np.float32)
        else:
            self._samples += len(block)
        wave = torch.from_numpy(np.ascontiguousarray(block)).to(self._device)
        new = self._log_mel(wave[None, None], self._state)[0]
        if self._ended:
            new = new[:, : self._samples // HOP + _ECHO - self._known]
        self._spectra.append(new)
        self._known += new.shape[1]
        self.forget(self._wanted)
        return new

    def _none(self) -> Tensor:
        return torch.zeros(self._log_mel.bands, 0, device=self._device)


def _along(blocks: Iterable[NDArray[np.float32]], measured: _Pass) -> Iterator[NDArray[np.float32]]:
    """The blocks, each of which another pass reads after it was taken here."""
    samples = 0
    for block in blocks:
        yield block
        samples += len(block)
        measured.measure(samples // HOP)


def _even(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """The same samples in blocks of one size, the last one shorter."""
    waiting: list[NDArray[np.float32]] = []
    length = 0
    for block in blocks:
        waiting.append(block)
        length += len(block)
        if length < _BLOCK:
            continue
        joined = np.concatenate(waiting) if len(waiting) > 1 else block
        edge = length - length % _BLOCK
        for begin in range(0, edge, _BLOCK):
            yield joined[begin : begin + _BLOCK]
        waiting, length = [joined[edge:]], length - edge
    if length:
        yield np.concatenate(waiting)
