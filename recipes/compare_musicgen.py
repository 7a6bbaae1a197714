"""Measure MusicGen here against `transformers`, side by side, at the sizes of musicgen-small.

    python -m recipes.compare_musicgen                        # 250 steps with guidance, 2 threads
    python -m recipes.compare_musicgen --engines alm int8 --steps 100 --runs 1

All engines read the same checkpoint, whose weights are random: written once to `--folder`, 2.4 GB.
As in the published one, those of the decoder are half floats. Each engine is a process of its own
and writes as many steps from the same prompt and seed; `same` tells whether all codes are those of
`transformers`. Rounds go through all engines (A B C A B C) after one that warms up; figures are
medians (least to most), peaks those of the processes. KL is how far each code's distribution in
int8 is from that in float32, in nats, as the model tells it and with guidance. Markdown and one
line of JSON go to standard output. Run it on an otherwise idle machine; needs the extra `test` and
4 GB of memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import string
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recipes.workers import Record, Worker, show, spread

ENGINES = ("transformers", "alm", "int8")
PROMPT = "an energetic dance tune with a deep bass, bright synthesisers and a steady beat"
TOP_K, GUIDANCE, SEED = 250, 3.0, 1
# Steps over which distributions are compared.
_COMPARED = 64


def main() -> None:
    """Write the table, or be one of the engines."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("/tmp/musicgen-small-random"))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--layers", type=int, default=24, help="fewer, to try this script")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    ask = parser.parse_args()
    if ask.engine:
        serve(ask)
        return
    written(ask.folder, ask.layers)
    show(compare(ask), ask.threads, ("torch", "transformers"))


def compare(ask: argparse.Namespace) -> list[Record]:
    """A record of each engine."""
    options = ["--folder", str(ask.folder), "--steps", str(ask.steps)]
    options += ["--threads", str(ask.threads)]
    environment = os.environ | {"OMP_NUM_THREADS": str(ask.threads), "HF_HUB_OFFLINE": "1"}
    workers = {
        name: Worker("recipes.compare_musicgen", [*options, "--engine", name], environment)
        for name in ask.engines
    }
    runs: dict[str, list[Record]] = {name: [] for name in workers}
    for _ in range(ask.runs + 1):
        for name, worker in workers.items():
            runs[name].append(worker.run("codes"))
    peaks = {name: answers[-1]["peak_mib"] for name, answers in runs.items()}
    divergence: list[str] = []
    if {"alm", "int8"} <= workers.keys():
        files = {name: ask.folder / f"{name}.pt" for name in ("alm", "int8")}
        for name, file in files.items():
            workers[name].run(f"logits {file}")
        exact, rounded = (torch.load(file, weights_only=True) for file in files.values())
        divergence = [f"{kl(*pair):.4f}" for pair in zip(exact, rounded, strict=True)]
    for worker in workers.values():
        worker.close()
    return [
        record(name, answers[1:], runs, peaks[name], divergence) for name, answers in runs.items()
    ]


def record(
    name: str,
    answers: list[Record],
    runs: dict[str, list[Record]],
    peak: float,
    divergence: list[str],
) -> Record:
    """What is told of an engine."""
    rates = [answer["steps"] / answer["seconds"] for answer in answers]
    theirs = runs.get("transformers", [])[1:]
    ratio, same = "-", "-"
    if theirs:
        reference = statistics.median(a["steps"] / a["seconds"] for a in theirs)
        ratio = f"{statistics.median(rates) / reference:.2f}"
        same = "yes" if answers[0]["codes"] == theirs[0]["codes"] else "no"
    return {
        "engine": name,
        "steps per second": spread(rates),
        "ratio": ratio,
        "peak MiB": round(peak),
        "MiB over torch": round(peak - answers[0]["torch_mib"]),
        "same": same,
        "KL, guided": ", ".join(divergence) if name == "int8" else "-",
    }


def kl(exact: Tensor, rounded: Tensor) -> float:
    """logits [N, K, V] twice -> how far the second is from the first, for each code on average."""
    first, second = exact.double().log_softmax(-1), rounded.double().log_softmax(-1)
    return float((first.exp() * (first - second)).sum(-1).mean())


def serve(ask: argparse.Namespace) -> None:
    """Answer each line of standard input with a line."""
    before = _peak_mib()
    torch.set_num_threads(ask.threads)
    engine = Theirs(ask) if ask.engine == "transformers" else Ours(ask)
    for line in sys.stdin:
        work, _, file = line.strip().partition(" ")
        begun = time.perf_counter()
        codes = engine.codes() if work == "codes" else engine.logits(Path(file))
        answer = {
            "seconds": time.perf_counter() - begun,
            "steps": ask.steps,
            "codes": hashlib.sha256(codes.contiguous().numpy().tobytes()).hexdigest(),
            "peak_mib": _peak_mib(),
            "torch_mib": before,
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


class Theirs:
    """The model of `transformers`."""

    def __init__(self, ask: argparse.Namespace) -> None:
        from transformers import MusicgenForConditionalGeneration, logging

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        self._steps = ask.steps
        self._model: Any = MusicgenForConditionalGeneration.from_pretrained(ask.folder).eval()
        self._ids = torch.tensor([_ids(ask.folder)])
        self._codes = torch.zeros(0, dtype=torch.long)
        # What the codes sound like is another matter.
        self._model.audio_encoder.decode = self._heard

    def codes(self) -> Tensor:
        """[K, F]."""
        torch.manual_seed(SEED)
        with torch.inference_mode():
            self._model.generate(
                input_ids=self._ids,
                attention_mask=torch.ones_like(self._ids),
                do_sample=True,
                top_k=TOP_K,
                guidance_scale=GUIDANCE,
                max_new_tokens=self._steps,
            )
        return self._codes

    def logits(self, file: Path) -> Tensor:
        """Not asked for."""
        raise NotImplementedError(file)

    def _heard(self, codes: Tensor, **_: object) -> Any:
        self._codes = codes[0, 0]
        return argparse.Namespace(audio_values=torch.zeros(1, 1, 1))


class Ours:
    """This program, in float32 or int8."""

    def __init__(self, ask: argparse.Namespace) -> None:
        from alm_cli.systems.composer import Piece, load_composer
        from alm_cli.systems.musicgen_composer import MusicGenComposer

        dtype = "int8" if ask.engine == "int8" else "float32"
        composer = load_composer(ask.folder, device="cpu", dtype=dtype)
        assert isinstance(composer, MusicGenComposer)
        rest = {"seed": SEED, "guidance": GUIDANCE, "top_k": TOP_K}
        frames = ask.steps - composer.model.lags[-1]
        self._composer, self._folder = composer, ask.folder
        self._piece = Piece(prompt=PROMPT, seconds=frames / 50, **rest)  # type: ignore[arg-type]

    def codes(self) -> Tensor:
        """[K, F]."""
        return self._composer.codes(self._piece)

    def logits(self, file: Path) -> Tensor:
        """Logits [N, K, V] that follow codes which are the same for all, plain and guided, kept."""
        config = self._composer.model.config
        generator = torch.Generator().manual_seed(0)
        shape = (1, config.books, _COMPARED)
        codes = torch.randint(config.codes, shape, generator=generator)
        pieces = replace(self._piece, guidance=1.0), self._piece
        torch.save([self._composer.logits(piece, codes) for piece in pieces], file)
        return codes


def written(folder: Path, layers: int) -> None:
    """The checkpoint, unless it is there."""
    if (folder / "tokenizer.json").exists():
        return
    from transformers import MusicgenConfig, MusicgenForConditionalGeneration

    text: Record = {"d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
    codec: Record = {"sampling_rate": 32_000, "num_filters": 64, "codebook_size": 2048}
    codec |= {"upsampling_ratios": [8, 5, 4, 4], "target_bandwidths": [2.2]}
    codec |= {"use_causal_conv": False, "use_conv_shortcut": False}
    config = MusicgenConfig(
        text_encoder={"model_type": "t5", **text},
        audio_encoder={"model_type": "encodec", **codec},
        decoder={"num_hidden_layers": layers},
    )
    torch.manual_seed(0)
    model: Any = MusicgenForConditionalGeneration(config)
    with torch.no_grad():
        for head in model.decoder.lm_heads:
            head.weight.mul_(4)  # some codes are likely and most are not, as in life
        for parameter in model.decoder.parameters():
            parameter.copy_(parameter.half().float())
        for name, buffer in model.named_buffers():
            if name.endswith("codebook.embed"):
                buffer.normal_()
    told = model.generation_config
    told.decoder_start_token_id = told.pad_token_id = told.bos_token_id = 2048
    model.save_pretrained(folder)
    _tokenizer(folder)


def _tokenizer(folder: Path) -> None:
    """Letters; there are no words in it, nor need there be."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = ["▁", *string.ascii_letters, *",.'"]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0)]
    made = Tokenizer(models.Unigram([*pieces, *((letter, -3.0) for letter in letters)], 2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.save(str(folder / "tokenizer.json"))


def _ids(folder: Path) -> list[int]:
    from alm_cli.text.t5_text import load_t5_text

    return load_t5_text(folder, 32_128).ids(PROMPT)


def _peak_mib() -> float:
    # Not `getrusage`: a process that is started begins with the peak of the one that started it.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
