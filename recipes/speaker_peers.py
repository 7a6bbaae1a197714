"""Speaking models as others run them: how a checkpoint is made, and an engine for every program.

Another model joins with a line in `MODELS`: what writes its checkpoint below a folder, with weights
that never end a text by themselves, and the programs that say it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from recipes import vits_peers

Engine = Callable[[str, int], Iterator[Any]]  # text and seed -> samples, piece by piece


class Load(Protocol):
    """Makes an engine of the checkpoint in a folder; `kind` is float32 or int8."""

    def __call__(self, folder: Path, kind: str) -> Engine: ...


@dataclass(frozen=True)
class Model:
    """`programs` by their names: how each is loaded, and the number type."""

    build: Callable[[Path], Path]
    programs: dict[str, tuple[Load, str]]
    rate: int
    package: str  # without which there is nothing to compare with


def ours(folder: Path, kind: str) -> Engine:
    """This program; with the voice that came with the model, or its only one."""
    from alm_cli.systems.speaker import Line, load_speaker

    speaker = load_speaker(folder, device="cpu", dtype=kind)
    voice = speaker.voice(None)

    def say(text: str, seed: int) -> Iterator[Any]:
        return speaker.stream(Line(text=text, seed=seed, voice=voice))

    return say


def _pocket(folder: Path, kind: str) -> Engine:
    """The package pocket-tts, which computes on one core and decodes on another."""
    from pocket_tts import TTSModel  # type: ignore[import-not-found]

    model = TTSModel.load_model(config=folder / "model.yaml", quantize=kind == "int8")
    voice = model.get_state_for_audio_prompt(folder / "embeddings" / "alba.safetensors")

    def say(text: str, seed: int) -> Iterator[Any]:
        torch.manual_seed(seed)
        with torch.no_grad():
            for chunk in model.generate_audio_stream(voice, text):
                yield chunk.numpy()

    return say


@torch.no_grad()
def _build_pocket(config: str, root: Path) -> Path:
    """Random weights of the published sizes, bfloat16 as in the published files."""
    import pocket_tts
    import yaml
    from pocket_tts import TTSModel, export_model_state
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder = root / config
    (folder / "embeddings").mkdir(parents=True)
    source = Path(pocket_tts.__file__).parent / "config" / f"{config}.yaml"
    settings = yaml.safe_load(source.read_text(encoding="utf-8"))
    for key in ("weights_path", "weights_path_without_voice_cloning"):
        settings.pop(key)
    table = settings["flow_lm"]["lookup_table"]
    _write_tokenizer(table["n_bins"], folder / "tokenizer.json")
    table.update(tokenizer="tokenizers", tokenizer_path=str(folder / "tokenizer.json"))
    (folder / "model.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    model = TTSModel.load_model(config=folder / "model.yaml")
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            parameter.normal_(0, 0.02)
        elif name.endswith("out_eos.bias"):
            parameter.fill_(-100)
        parameter.copy_(parameter.bfloat16())
    voice = model.get_state_for_audio_prompt(torch.randn(1, 10 * 24_000) * 0.1)
    export_model_state(voice, folder / "embeddings" / "alba.safetensors")
    weights = {key: x.bfloat16() for key, x in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    settings["weights_path"] = str(folder / "model.safetensors")
    (folder / "model.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder


def _write_tokenizer(size: int, file: Path) -> None:
    """A tokenizer with so many tokens, nearly all of which no text has."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,!?;:'-▁"]
    pairs = [a + b for a in letters[:26] for b in letters[:26]]
    pieces = [*letters, *pairs, *(f"\0{place}" for place in range(size))][: size - 1]
    scored = [("<unk>", 0.0), *((piece, -float(4 - len(piece))) for piece in pieces)]
    tokenizer = Tokenizer(models.Unigram(scored, 0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.save(str(file))


_POCKET = {
    "alm": (ours, "float32"),
    "alm int8": (ours, "int8"),
    "pocket-tts": (_pocket, "float32"),
    "pocket-tts int8": (_pocket, "int8"),
}
_VITS = {"alm": (ours, "float32"), "transformers": (vits_peers.vits, "float32")}
_SPEECHT5 = {
    "alm": (vits_peers.our_speecht5, "float32"),
    "alm int8": (vits_peers.our_speecht5, "int8"),
    "transformers": (vits_peers.speecht5, "float32"),
}
MODELS = {
    **{
        name: Model(partial(_build_pocket, config), _POCKET, 24_000, "pocket_tts")
        for name, config in (
            ("pocket-tts", "english_2026-10"),
            ("pocket-tts-24l", "english_2026-09_24l"),
            ("pocket-tts-drifting", "english_drifting_26-09"),
            ("pocket-tts-18m", "english_18m_2026-10"),
            ("pocket-tts-2m", "english_2m_2026-10"),
        )
    },
    "mms-tts": Model(vits_peers.build_vits, _VITS, 16_000, "transformers"),
    "speecht5": Model(vits_peers.build_speecht5, _SPEECHT5, 16_000, "transformers"),
}


def missing(model: Model) -> str | None:
    """The package that is not installed, if any."""
    return None if importlib.util.find_spec(model.package) else model.package
