"""Rendering with a model that fills stretches of frames at once, a codebook after the other.

After SoundStorm (arXiv:2305.09636): the first book of a stretch is looked at several times, each
time what was least likely is drawn again; the others are taken as they are likeliest, one look
each. A line is rendered stretch by stretch, so that it is heard soon, and steadily however long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.decoding.masked import fill, soundstorm_looks
from alm_cli.decoding.sampling import noise_of
from alm_cli.systems.rendering import Rendered, Rendering, Sketch, end_of

# Looks at each codebook.
_LOOKS = (4, 1, 1, 1, 1, 1, 1, 1)
# Frames of the first stretches, and of all later ones; frames before that are seen again.
STRETCHES = (25, 50, 100)
SEEN = 75


class ParallelRendering(Rendering):
    """A model whose frames see one another, and its codec; sketches go one by one."""

    def all(self, sketches: Sequence[Sketch]) -> list[Rendered]:
        """Each as `stream` gives it."""
        return [end_of(self.stream(sketch)) for sketch in sketches]

    def _frames(self, sketch: Sketch) -> Iterator[Tensor]:
        """Codes [1, K] of each new frame."""
        noise = noise_of(sketch.seed, self._kind, device=self._device)
        known, before = sketch.before[None], sketch.before.shape[1]
        told = F.pad(sketch.condition, (0, 0, before, 0))[None]
        for begin, end in stretches(sketch.frames):
            first = max(0, before + begin - SEEN)
            condition = told[:, first : before + end]
            given = self._given(sketch, begin, end)
            new = self._filled(known[:, :, first:], given, condition, sketch, noise)
            known = torch.cat([known, new], 2)
            yield from new.unbind(-1)

    def _given(self, sketch: Sketch, begin: int, end: int) -> Tensor:
        """The first books of new frames as far as they need not be drawn [1, G, frames]."""
        return sketch.before.new_zeros(1, 0, end - begin)

    def _filled(
        self, past: Tensor, given: Tensor, told: Tensor, sketch: Sketch, noise: torch.Generator
    ) -> Tensor:
        """past [1, K, P], given [1, G, S], condition [1, P + S, width] -> codes [1, K, S]."""
        model, how, known = self._model, sketch.sampling, given.shape[1]

        def predict(codes: Tensor, book: int, share: float) -> Tensor:
            del share  # it is seen from the codes
            inputs = torch.cat([past, torch.cat([given, codes], 1)], 2)
            return model.asked(known + book, inputs, told, sketch.tone)[:, past.shape[2] :]

        nothing = past.new_full((1, model.books - known, given.shape[2]), -1)
        looks = [soundstorm_looks(count, how.temperature) for count in _LOOKS[known : model.books]]
        return torch.cat([given, fill(predict, nothing, looks, how, [noise])], 1)


def stretches(frames: int) -> Iterator[tuple[int, int]]:
    """From which frame to which: short ones first; what would be left at the end joins the last."""
    begin, place = 0, 0
    while begin < frames:
        size = STRETCHES[min(place, len(STRETCHES) - 1)]
        end = begin + size if frames - begin >= size + STRETCHES[0] else frames
        yield begin, end
        begin, place = end, place + 1
