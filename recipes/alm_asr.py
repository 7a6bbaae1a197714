"""Train alm-asr, the recogniser that ships in the package (see recipes/README.md).

Data comes from `recipes/alm_asr_data.py`. Seeded and resumable: the whole state is saved to the
run folder every few minutes, and the same command continues; a greater --minutes or --steps goes
on with what is there.

    python recipes/alm_asr.py RUN_DIR DATA_DIR --minutes 60       train; again: continue
    python recipes/alm_asr.py RUN_DIR DATA_DIR --export FOLDER    write the checkpoint
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.encoders.alm_asr import LETTERS, SOUNDS, AlmAsr, AlmAsrConfig
from alm_cli.text.phonemes import english
from recipes.asr_noise import RATE, Surroundings, holes, other_paces, other_throats
from recipes.asr_text import greedy, word_errors
from recipes.training import Training, options, run

TESTS = ("test_texts", "test_espeak", "test_flite", "test_festival", "test_readers")
Batch = tuple[Tensor, Tensor, list[str]]  # waves [B, 1, T], their lengths [B], texts

# How much of what is heard is of which parts: real readers as often as their few clips bear.
SHARES = {"train": 0.40, "hmm": 0.38, "readers": 0.22}


class Clips:
    """The clips of the parts whose index is there."""

    def __init__(self, folder: Path, *patterns: str) -> None:
        self.parts = sorted(path for p in patterns for path in folder.glob(f"{p}.json"))
        self.waves = [np.memmap(path.with_suffix(".i16"), "<i2", "r") for path in self.parts]
        rows = [json.loads(path.read_text(encoding="utf-8")) for path in self.parts]
        self.rows = [(part, *row[:3]) for part, found in enumerate(rows) for row in found]
        self.cuts = [row[4] if len(row) > 4 else [] for found in rows for row in found]
        self.lengths = np.array([row[2] for row in self.rows])
        self.kinds = np.array([self.parts[row[0]].name.split("_")[0] for row in self.rows])

    def wave(self, index: int) -> np.ndarray:
        part, start, length, _ = self.rows[index]
        return self.waves[part][start : start + length].astype(np.float32) / 32768

    def text(self, index: int) -> str:
        return str(self.rows[index][3])

    def words(self, rng: np.random.Generator, index: int, most: int) -> tuple[np.ndarray, str]:
        """Up to so many words of a clip and their text; all where no times are known."""
        wave, words, cuts = self.wave(index), self.text(index).split(), self.cuts[index]
        if len(cuts) - 1 != len(words):
            return wave, " ".join(words)
        first = int(rng.integers(0, max(1, len(words) - 1)))
        last = min(len(words), first + int(rng.integers(2, most + 1)))
        return wave[cuts[first] : cuts[last]], " ".join(words[first:last])

    def heard(self, rng: np.random.Generator, index: int) -> tuple[np.ndarray, str]:
        """A clip and its text; of those whose words have times, now and then some words.

        What there is too little of would be learnt by heart: so also words of several clips.
        """
        kind = rng.random()
        if not self.cuts[index] or kind < 0.3:
            return self.wave(index), self.text(index)
        if kind < 0.55:
            return self.words(rng, index, 30)
        alike = np.flatnonzero(self.kinds == self.kinds[index])
        others = rng.choice(alike, int(rng.integers(1, 4)))
        parts = [self.words(rng, int(one), 9) for one in (index, *others)]
        waves = [wave / (np.abs(wave).max() + 1e-6) for wave, _ in parts]
        return np.concatenate(waves), " ".join(text for _, text in parts)


def batches(
    clips: Clips, rng: np.random.Generator, kind: str, seconds: float, longest: float
) -> Iterator[list[int]]:
    """Indices of clips of a kind and of about one length, so many seconds together; each once."""
    chosen = np.flatnonzero((clips.kinds == kind) & (clips.lengths < longest * RATE))
    # Not always the same clips together.
    order = chosen[np.argsort(clips.lengths[chosen] * rng.uniform(0.9, 1.1, len(chosen)))]
    groups, group = [], []
    for index in order:
        group.append(int(index))
        if (len(group) + 1) * clips.lengths[index] > seconds * RATE:
            groups.append(group)
            group = []
    for place in rng.permutation(len(groups)):
        yield groups[place]


class AlmAsrTraining(Training[AlmAsr]):
    """The clips of the data as they are heard this time, and the losses of CTC."""

    name = "alm_asr"

    def __init__(self, run: Path, data: Path, ask: argparse.Namespace) -> None:
        torch.manual_seed(ask.seed)
        config = AlmAsrConfig()
        # Half way the sounds must be there already (arXiv:2102.03216): it makes the start quicker.
        model, average = AlmAsr(config), AlmAsr(config)
        early = nn.Linear(config.dimension, 2 * len(SOUNDS))
        super().__init__(run, ask, model, average, early=early)
        self.data, self.early = data, early
        bank = Clips(data, "noise")
        self.surroundings = Surroundings(bank.waves[0] if bank.waves else np.zeros(0), ask.seed)
        self.tests = {name: Clips(data, name) for name in TESTS}
        self.lexicon: dict[str, list[int]] = {}

    def epoch(self) -> Iterator[list[int]]:
        """Clips of which a thread makes a batch, of each kind by its share, for some minutes."""
        self.clips = clips = Clips(self.data, *(f"{kind}_*" for kind in SHARES))
        shares = {kind: share for kind, share in SHARES.items() if kind in clips.kinds}
        odds = np.array(list(shares.values())) / sum(shares.values())
        going = {kind: iter(()) for kind in shares}
        for _ in range(200):
            kind = str(self.rng.choice(list(shares), p=odds))
            group = next(going[kind], None)
            if group is None:
                going[kind] = batches(clips, self.rng, kind, self.ask.seconds, 17.5)
                group = next(going[kind])
            yield group

    def strength(self, group: list[int]) -> float:
        """How strongly clips are distorted: most where there are few."""
        return 1.0 if self.clips.kinds[group[0]] == "readers" else float(self.ask.strength)

    def sounded(self, text: str) -> list[int]:
        """What the words of a text sound like."""
        found = []
        for word in text.split():
            if word not in self.lexicon:
                self.lexicon[word] = [SOUNDS.index(s) for s in english().phonemes(word)]
            found += self.lexicon[word]
        return found

    def batch(self, rng: np.random.Generator, group: list[int]) -> Batch:
        """Clips as they are heard this time."""
        strength = self.strength(group)
        clips = [self.clips.heard(rng, index) for index in group]
        raw, texts = map(list, zip(*clips, strict=True))
        heard = [self.surroundings.around(rng, wave, raw, strength) for wave in raw]
        for i in np.flatnonzero(rng.random(len(group)) < 0.07 * min(1.0, 4 * strength)):
            heard[i], texts[i] = self.surroundings.without_speech(rng, len(heard[i])), ""
        lengths = torch.tensor([len(wave) for wave in heard])
        # Whole seconds: kernels are made for each shape anew.
        waves = torch.zeros(len(heard), 1, -(-int(lengths.max()) // RATE) * RATE)
        for row, wave in zip(waves, heard, strict=True):
            row[0, : len(wave)] = torch.from_numpy(wave)
        return waves.to(self.device), lengths.to(self.device), texts

    def losses(self, rng: np.random.Generator, group: list[int]) -> tuple[Tensor, dict[str, float]]:
        """The losses a letter, and a sound, of the model, and a sound of its first half."""
        waves, lengths, texts = self.batch(rng, group)
        bands, mask = self.model.heard(waves, lengths)
        strength = self.strength(group)
        bands = other_throats(rng, bands, 0.3 + 0.7 * strength)
        assert mask is not None
        bands = other_paces(rng, bands, mask.sum((1, 2)).int().tolist(), 0.3)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.ask.half):
            x, middle = self.model.read(holes(rng, bands, strength), mask)
            early = self.early(middle)
        x, early = x.float(), early.float().reshape(len(x), -1, len(SOUNDS)).log_softmax(-1)
        hop = self.model.hop
        written = [[LETTERS.index(letter) for letter in text] for text in texts]
        said = list(map(self.sounded, texts))
        loss = self.ctc(self.model.letters(x), written, lengths, hop)
        sound = self.ctc(self.model.phonemes(x), said, lengths, hop)
        first = self.ctc(early, said, lengths, 2 * hop)
        told = {"loss": loss, "sound": sound, "early": first}
        told = {name: float(value.detach()) for name, value in told.items()}
        seconds = float(lengths.sum()) / RATE
        return loss + 0.5 * sound + 0.3 * first, told | {"audio": seconds}

    def ctc(self, said: Tensor, targets: list[list[int]], lengths: Tensor, hop: int) -> Tensor:
        """The loss a symbol of log-probabilities [B, F, V], a number [], of waves [B] so long."""
        sizes = torch.tensor([len(row) for row in targets], device=self.device)
        numbers = torch.tensor([symbol for row in targets for symbol in row], device=self.device)
        # Infinite where somebody talks too fast for the frames.
        loss = F.ctc_loss(
            *(said.transpose(0, 1), numbers, (lengths + hop - 1) // hop, sizes),
            reduction="sum", zero_infinity=True,
        )  # fmt: skip
        # A recording without speech counts like one of ten letters.
        return loss / (sizes.sum() + 10 * (sizes == 0).sum())

    def validate(self, *, last: bool = False) -> dict[str, object]:
        """Word error rates in per cent of the averaged model, on the first clips of each test."""
        found: dict[str, object] = {}
        count = 80 if last else 24
        for name, clips in self.tests.items():
            wrong = words = 0
            for index in range(min(count, len(clips.rows))):
                wave = torch.from_numpy(clips.wave(index)).to(self.device)
                said = greedy(self.average(wave[None, None])[0].cpu(), LETTERS)
                wrong += word_errors(clips.text(index), said)
                words += len(clips.text(index).split())
            if words:
                found[name] = 100 * wrong / words
        return found


def main() -> None:
    parser = options(__doc__, lr=1.5e-3)
    parser.add_argument("--seconds", type=float, default=36.0, help="of audio a thread and step")
    parser.add_argument("--strength", type=float, default=0.4, help="of distortions: 0 to 1; a "
                        "short training learns more from less")  # fmt: skip
    parser.add_argument("--half", action="store_true", help="multiply in bfloat16: twice as fast "
                        "where the processor can")  # fmt: skip
    ask = parser.parse_args()
    ask.run.mkdir(parents=True, exist_ok=True)
    run(AlmAsrTraining(ask.run, ask.data, ask), ask)


if __name__ == "__main__":
    main()
