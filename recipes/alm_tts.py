"""Train alm-tts, the speaker that ships in the package (see recipes/README.md).

Data comes from `recipes/alm_tts_data.py`. Seeded and resumable: the whole state is saved to the run
folder every few minutes, and the same command continues; a greater --minutes or --steps goes on
with what is there.

    python recipes/alm_tts.py RUN_DIR DATA_DIR --minutes 60       train; again: continue
    python recipes/alm_tts.py RUN_DIR DATA_DIR --export FOLDER    write the checkpoint
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from alm_cli.lm.alm_tts import AlmTts, AlmTtsConfig
from recipes.alm_tts_data import Speaker, clip
from recipes.renderers import disturbed, started, weighed
from recipes.training import Training, options, run

# The voices that have names, the best one first, and what they are made of.
VOICES = {
    "baritone": Speaker("rms"),
    "alto": Speaker("slt"),
    "tenor": Speaker("awb"),
    "bass": Speaker("rms", 0.85, 0.9375),
    "soprano": Speaker("slt", 1.15, 1.0625),
    "robot": Speaker("kal16"),
}
SENTENCES = (
    "The old mill stood beside the river for more than two hundred years.",
    "Every morning the children carried fresh water up the narrow path.",
    "She asked whether anybody had seen the small grey dog again.",
    "Nothing is quite as quiet as a garden under deep snow.",
)
# The first codebooks decide what is heard, the last ones how clean it is.
WEIGHTS = (1.5, 1.3, 1.1, 1.0, 0.9, 0.8, 0.7, 0.7)
# How often a row is asked for each book.
ASKED = (0.25, 0.18, 0.14, 0.11, 0.09, 0.08, 0.08, 0.07)
# The part of the codes that are given and others than they were.
SPOILT = (0.03,) * 8
# How often a row ends early, and how often its beginning is known: lines are drawn in stretches.
ENDS, KNOWN = 0.4, 0.5
PREFIX = (20, 75)  # frames of the same speaker before, whose sounds are not told
REFERENCE = (40, 125)  # frames from which the voice is taken


@dataclass(frozen=True)
class Row:
    """A clip of the data: [N], [N], [N] and codes [K, F]; who speaks."""

    speaker: tuple[int, int]
    symbols: np.ndarray
    first: np.ndarray
    durations: np.ndarray
    codes: np.ndarray


@dataclass(frozen=True)
class LaidOut:
    """Codes [K, P + F], of which P were said `before`, and the condition [P + F, width]."""

    codes: Tensor
    before: int
    condition: Tensor


class Clips:
    """The clips of the parts that are there."""

    def __init__(self, folder: Path) -> None:
        self.rows: list[Row] = []
        for part, path in enumerate(sorted(folder.glob("part_*.npz"))):
            self.rows += _rows(part, path)
        self.by_speaker: dict[tuple[int, int], list[int]] = {}
        for index, row in enumerate(self.rows):
            self.by_speaker.setdefault(row.speaker, []).append(index)

    def other(self, index: int, rng: np.random.Generator) -> Row:
        """Another clip of the same speaker, or the same where there is no other."""
        same = [i for i in self.by_speaker[self.rows[index].speaker] if i != index]
        return self.rows[int(rng.choice(same)) if same else index]


def _rows(part: int, path: Path) -> Iterator[Row]:
    with np.load(path) as file:
        data = {name: file[name] for name in file.files}
    sounds, frames = np.r_[0, data["sizes"].cumsum()], np.r_[0, data["frames"].cumsum()]
    for n, speaker in enumerate(data["speaker"]):
        inside, across = slice(sounds[n], sounds[n + 1]), slice(frames[n], frames[n + 1])
        yield Row(
            (part, int(speaker)),
            data["symbols"][inside],
            data["first"][inside],
            data["durations"][inside],
            data["codes"][:, across],
        )


def held_out(index: int) -> bool:
    """Every 60th clip tells how well the model predicts what it has not seen."""
    return index % 60 == 7


def batches(clips: Clips, rng: np.random.Generator, frames: int) -> Iterator[list[int]]:
    """Indices of clips of about one length, so many frames together; each clip once."""
    lengths = np.array([row.codes.shape[1] for row in clips.rows])
    chosen = np.array([i for i in range(len(lengths)) if not held_out(i)])
    order = chosen[np.argsort(lengths[chosen] * rng.uniform(0.85, 1.15, len(chosen)))]
    groups, group = [], []
    for index in order:
        group.append(int(index))
        if (len(group) + 1) * (lengths[index] + 20) > frames:
            groups.append(group)
            group = []
    for place in rng.permutation(len(groups)):
        yield groups[place]


class AlmTtsTraining(Training[AlmTts]):
    """The clips of the data, the losses of codes and of durations."""

    name = "alm_tts"
    config = AlmTtsConfig(causal=False)
    betas = (0.9, 0.97)
    decay, clip = 0.03, 1.0
    warm, fade = 100, 0.7
    averaging = 0.997

    def __init__(self, run: Path, data: Path, ask: argparse.Namespace) -> None:
        torch.manual_seed(ask.seed)
        first, second = AlmTts(self.config), AlmTts(self.config)
        super().__init__(run, ask, started(first, "alm-codec"), second)
        self.data, self.clips = data, Clips(data)

    def epoch(self) -> Iterator[list[int]]:
        """The clips that are there by now; each once."""
        self.clips = Clips(self.data)
        yield from batches(self.clips, self.rng, self.ask.frames)

    def losses(self, rng: np.random.Generator, group: list[int]) -> tuple[Tensor, dict[str, float]]:
        """The weighted sum, and what each book and the durations lose."""
        found = self.parted(rng, group, training=True)
        total, told = weighed(found[:-1], WEIGHTS)
        return total + found[-1], told | {"durations": float(found[-1].detach())}

    def parted(self, rng: np.random.Generator, group: list[int], *, training: bool) -> Tensor:
        """[K + 1]: the loss a code of each book, and that of the durations.

        Of each row one book is hidden in part and the finer ones wholly; that book is asked for.
        """
        model = self.model if training else self.average
        rows, tone, length = self.laid_out(rng, group, model)
        if training:
            rows = [_cut(rng, row) for row in rows]
        codes, targets = [], []
        for place, row in enumerate(rows):
            book = int(rng.choice(len(ASKED), p=ASKED)) if training else place % model.books
            hidden = rng.random(row.codes.shape[1]) < np.cos(rng.random() * np.pi / 2)
            hidden[: row.before] = False
            hidden[-1] |= not hidden.any()
            lost = torch.from_numpy(hidden).to(self.device)
            given, wanted = row.codes.clone(), torch.full_like(row.codes, -1)
            given[book].masked_fill_(lost, -1)
            given[book + 1 :, row.before :] = -1
            wanted[book, lost] = row.codes[book, lost]
            codes.append(given)
            targets.append(wanted)
        inputs = together(codes, -1)
        if training:
            inputs = disturbed(rng, inputs, model.config.vocabulary, SPOILT, 0.0)
        told = together([row.condition.mT for row in rows], 0).mT
        ends = [row.codes.shape[1] for row in rows]
        found = asked_losses(model, inputs, told, tone, together(targets, -1), ends)
        return torch.cat([found, length[None]])

    def laid_out(
        self, rng: np.random.Generator, group: list[int], model: AlmTts
    ) -> tuple[list[LaidOut], Tensor, Tensor]:
        """What is to be rendered of each row, the tone [B, width], the loss of the durations."""
        device = self.device
        rows = [self.clips.rows[i] for i in group]
        others = [self.clips.other(i, rng) for i in group]
        voice = model.voice(*self._references(rng, others))
        symbols, first, units, mask = _padded(rows, device)
        features, lengths = model.reader(symbols, first, voice, mask[:, None, None])
        found = []
        for n, (row, other) in enumerate(zip(rows, others, strict=True)):
            told = model.condition(features[n, : len(row.symbols)], units[n, : len(row.symbols)])
            before = _prefix(rng, other) if rng.random() < 0.5 else other.codes[:, :0]
            said = np.concatenate([before, row.codes], 1).astype(np.int64)
            told = F.pad(told, (0, 0, before.shape[1], 0))
            found.append(LaidOut(torch.from_numpy(said).to(device), before.shape[1], told))
        known = mask == 0
        target = (units.float() + 0.5).log()
        length = F.smooth_l1_loss(lengths[known], target[known], beta=0.2)
        return found, model.tone(voice), length

    def _references(self, rng: np.random.Generator, others: list[Row]) -> tuple[Tensor, Tensor]:
        """Latents [B, F, D] of a piece of each, and which of the frames are none."""
        pieces = [_piece(rng, row.codes, REFERENCE) for row in others]
        longest = max(piece.shape[1] for piece in pieces)
        codes = np.stack([np.pad(p, ((0, 0), (0, longest - p.shape[1]))) for p in pieces])
        mask = np.stack([np.arange(longest) >= p.shape[1] for p in pieces])
        hidden = torch.from_numpy(mask).to(self.device)
        latents = self.model.latents(torch.from_numpy(codes.astype(np.int64)).to(self.device))
        none = torch.zeros(hidden.shape, device=self.device).masked_fill(hidden, -torch.inf)
        return latents.masked_fill(hidden[..., None], 0), none

    def validate(self, *, last: bool = False) -> dict[str, object]:
        """The losses of the averaged model on clips that it has not seen."""
        count = 192 if last else 48
        kept = [i for i in range(len(self.clips.rows)) if held_out(i)][:count]
        rng = np.random.default_rng(1)
        groups = [kept[n : n + 8] for n in range(0, len(kept), 8)]
        found = torch.stack([self.parted(rng, group, training=False) for group in groups])
        return {"held out": [round(float(x), 4) for x in found.mean(0)]}

    def shipped(self) -> dict[str, Tensor]:
        """The model, and the voices that have names."""
        return self.average.state_dict() | {"named": self.named()}

    def settings(self) -> dict[str, object]:
        """The model's, and those names."""
        return super().settings() | {"voices": [*VOICES]}

    @torch.no_grad()
    def named(self) -> Tensor:
        """The voices that have names [N, W]: of each the mean of some sentences."""
        found = []
        for speaker in VOICES.values():
            codes = [clip(speaker, text, 1.0).codes.astype(np.int64) for text in SENTENCES]
            latents = (self.average.latents(torch.from_numpy(c)[None]) for c in codes)
            found.append(torch.cat([self.average.voice(x) for x in latents]).mean(0))
        return torch.stack(found)


def _cut(rng: np.random.Generator, row: LaidOut) -> LaidOut:
    """A row, or one that ends early, or of which more is known."""
    frames, before = row.codes.shape[1], row.before
    if rng.random() < ENDS:
        frames = int(rng.integers(min(frames, before + 12), frames + 1))
    if rng.random() < KNOWN:
        before = int(rng.integers(before, max(before + 1, frames - 8)))
    return LaidOut(row.codes[:, :frames], before, row.condition[:frames])


def asked_losses(
    model: AlmTts,
    inputs: Tensor,
    told: Tensor,
    tone: Tensor,
    wanted: Tensor,
    ends: Sequence[int] | None = None,
) -> Tensor:
    """inputs and wanted [B, K, F], condition [B, F, width] -> the loss a code of each book [K].

    It is 0 where none is asked for. `ends`: where rows end, if they see what comes later.
    """
    hidden = None
    if ends is not None:
        after = torch.arange(inputs.shape[2]) >= torch.tensor(ends)[:, None]
        hidden = torch.zeros(after.shape).masked_fill(after, -torch.inf)[:, None, None]
        hidden = hidden.to(inputs.device)
    x = model.norm(model.read(inputs, told, tone, hidden=hidden))
    aims = model.aim(x).unflatten(-1, (model.books, -1))
    found = []
    for book, head in enumerate(model.heads):
        chosen = wanted[:, book] >= 0
        logits = head(aims[:, :, book][chosen])
        loss = F.cross_entropy(logits, wanted[:, book][chosen], reduction="sum")
        found.append(loss / chosen.sum().clamp(min=1))
    return torch.stack(found)


def together(parts: Sequence[Tensor], nothing: int) -> Tensor:
    """Parts [..., S], each of its own length, as rows of one tensor [B, ..., S]."""
    longest = max(part.shape[-1] for part in parts)
    padded = [F.pad(part, (0, longest - part.shape[-1]), value=nothing) for part in parts]
    return torch.stack(padded)


def _padded(rows: list[Row], device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Symbols, beginnings, units [B, N], and minus infinity where there are none [B, N]."""
    longest = max(len(row.symbols) for row in rows)
    found = []
    for name in ("symbols", "first", "durations"):
        parts = [getattr(row, name).astype(np.int64) for row in rows]
        found.append(np.stack([np.pad(part, (0, longest - len(part))) for part in parts]))
    symbols, first, units = (torch.from_numpy(part).to(device) for part in found)
    sizes = torch.tensor([len(row.symbols) for row in rows], device=device)
    beyond = torch.arange(longest, device=device) >= sizes[:, None]
    mask = torch.zeros(beyond.shape, device=device).masked_fill(beyond, -torch.inf)
    return symbols, first, units, mask


def _piece(rng: np.random.Generator, codes: np.ndarray, bounds: tuple[int, int]) -> np.ndarray:
    """Some frames of a recording, wherever they begin."""
    length = min(codes.shape[1], int(rng.integers(*bounds)))
    begin = int(rng.integers(0, codes.shape[1] - length + 1))
    return codes[:, begin : begin + length]


def _prefix(rng: np.random.Generator, row: Row) -> np.ndarray:
    """The last frames of what was said before."""
    length = min(row.codes.shape[1], int(rng.integers(*PREFIX)))
    return row.codes[:, row.codes.shape[1] - length :]


def asked(description: str) -> argparse.ArgumentParser:
    """What the training of a speaker can be asked for."""
    parser = options(description, lr=2e-3)
    parser.add_argument("--frames", type=int, default=1000, help="a thread and step")
    return parser


def main() -> None:
    ask = asked(__doc__).parse_args()
    ask.run.mkdir(parents=True, exist_ok=True)
    run(AlmTtsTraining(ask.run, ask.data, ask), ask)


if __name__ == "__main__":
    main()
