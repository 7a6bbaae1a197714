"""Tiny MusicGens as AudioCraft exports them, and what its own program makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.nn import functional as F

from tests.lm.magnets import given_words, words
from tests.lm.musicgens import CODES, Pair, tokenizer

DIMENSION, HEADS, LAYERS, SCALE, TEXT = 32, 4, 2, 2, 12
SECONDS, MELODY = 3, 24  # 1 + 3 * 32000 // 4096
TRANSFORMER: dict[str, Any] = {
    "dim": DIMENSION, "num_heads": HEADS, "num_layers": LAYERS, "hidden_scale": SCALE, "n_q": 4,
    "card": 48, "dropout": 0.0, "emb_lr": None, "activation": "gelu", "norm_first": True,
    "bias_ff": False, "bias_attn": False, "bias_proj": False, "past_context": None, "causal": True,
    "custom": False, "memory_efficient": True, "attention_as_float32": False, "layer_scale": None,
    "positional_embedding": "sin", "xpos": False, "checkpointing": "none",
    "weight_init": "gaussian", "depthwise_init": "current", "zero_bias_init": True,
    "norm": "layer_norm", "cross_attention": False, "qk_layer_norm": False,
    "qk_layer_norm_cross": False, "attention_dropout": None, "kv_repeat": 1, "two_step_cfg": False,
}  # fmt: skip
CHROMA: dict[str, Any] = {
    "sample_rate": "${sample_rate}", "n_chroma": 12, "radix2_exp": 14, "argmax": True,
    "match_len_on_eval": False, "eval_wavs": None, "n_eval_wavs": 100, "cache_path": None,
}  # fmt: skip


def cfg(*, melody: bool = False, stereo: bool = False, **sizes: object) -> dict[str, Any]:
    """What a checkpoint says of itself, of what matters and some that does not."""
    t5 = {"name": "t5-base", "finetune": False, "word_dropout": 0.3, "normalize_text": False}
    wave = {"self_wav": {"model": "chroma_stem", "chroma_stem": dict(CHROMA)}} if melody else {}
    lags = [0, 0, 1, 1, 2, 2, 3, 3] if stereo else [0, 1, 2, 3]
    return {
        "solver": "musicgen",
        "sample_rate": 32_000,
        "channels": 2 if stereo else 1,
        "lm_model": "transformer_lm",
        "codebooks_pattern": {
            "modeling": "delay",
            "delay": {"delays": lags, "flatten_first": 0, "empty_initial": 0},
            "unroll": {"flattening": [0, 1, 2, 3], "delays": [0, 0, 0, 0]},
        },
        "transformer_lm": TRANSFORMER | ({"n_q": 8} if stereo else {}) | sizes,
        "classifier_free_guidance": {"training_dropout": 0.3, "inference_coef": 3.0},
        "fuser": {
            "cross_attention_pos_emb": False,
            "cross_attention_pos_emb_scale": 1,
            "sum": [],
            "prepend": ["self_wav", "description"] if melody else [],
            "cross": [] if melody else ["description"],
            "input_interpolate": [],
        },
        "conditioners": {**wave, "description": {"model": "t5", "t5": t5}},
        "interleave_stereo_codebooks": {"use": stereo, "per_timestep": False},
        "dataset": {"batch_size": 192, "segment_duration": SECONDS},
        "optim": {"lr": 1.0, "adam": {"betas": [0.9, 0.95]}},
    }


def written(settings: Mapping[str, Any]) -> str:
    """As `OmegaConf.to_yaml` writes it."""
    return yaml.safe_dump(dict(settings), default_flow_style=False, sort_keys=False)


def export(folder: Path, state: Mapping[str, Tensor], text: object) -> Path:
    """A folder with `state_dict.bin`, as AudioCraft's `export_lm` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    value = {"best_state": dict(state), "xp.cfg": text, "version": "1.3.0", "exported": True}
    torch.save(value, folder / "state_dict.bin")
    return folder


_NAMES = {
    "decoder.model.decoder.embed_tokens": "emb",
    "decoder.model.decoder.layers": "transformer.layers",
    "decoder.model.decoder.layer_norm": "out_norm",
    "decoder.lm_heads": "linears",
    "audio_enc_to_dec_proj": "condition_provider.conditioners.self_wav.output_proj",
    "enc_to_dec_proj": "condition_provider.conditioners.description.output_proj",
}
_PARTS = {
    "encoder_attn_layer_norm": "norm_cross",
    "self_attn_layer_norm": "norm1",
    "final_layer_norm": "norm2",
    "encoder_attn": "cross_attention",
    "fc1": "linear1",
    "fc2": "linear2",
}


def renamed(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dictionary of `transformers` under the names of AudioCraft, without T5 and codec."""
    made: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        begin = next((x for x in _NAMES if name.startswith(x)), None)
        if begin is None:
            continue
        name = _NAMES[begin] + name.removeprefix(begin)
        for part, own in _PARTS.items():
            name = name.replace(f".{part}.", f".{own}.")
        if name.endswith("q_proj.weight"):
            others = (f"decoder.model.decoder.layers{_origin(name, p)}" for p in "qkv")
            tensor = torch.cat([theirs[other] for other in others])
            name = name.replace("q_proj.weight", "in_proj_weight")
        elif name.endswith(("k_proj.weight", "v_proj.weight")):
            continue
        made[name] = tensor
    if "condition_provider.conditioners.self_wav.output_proj.weight" in made:
        window = "condition_provider.conditioners.self_wav.chroma.spec.window"
        made[window] = torch.hann_window(16_384)
    return made


def _origin(name: str, part: str) -> str:
    """`transformer.layers.0.cross_attention.q_proj.weight` -> `.0.encoder_attn.v_proj.weight`."""
    rest = name.removeprefix("transformer.layers").replace("cross_attention", "encoder_attn")
    return rest.replace("q_proj", f"{part}_proj")


def exported(pair: Pair, folder: Path, *, half: bool = False) -> Path:
    """The weights of a pair as AudioCraft keeps them, with a T5 and a codec beside."""
    config, state = pair.model.config, renamed(pair.theirs.state_dict())
    if half:
        halves = {name: x.half() for name, x in state.items()}
        state |= {name: x for name, x in halves.items() if torch.equal(x.float(), state[name])}
    sizes = {"card": CODES, "num_heads": config.heads, "n_q": config.books}
    told = cfg(melody=config.melody > 0, stereo=config.channels > 1, **sizes)
    export(folder, state, written(told))
    pair.theirs.text_encoder.save_pretrained(folder / "t5-base")
    tokenizer(folder / "t5-base")
    pair.theirs.audio_encoder.save_pretrained(folder / "encodec_32khz")
    pointer = {"pretrained": "facebook/encodec_32khz", "exported": True, "version": "1.3.0"}
    torch.save(pointer, folder / "compression_state_dict.bin")
    return folder


@dataclass(frozen=True)
class Case:
    """What AudioCraft was asked for, in its own words."""

    frames: int
    seed: int
    melody: bool = False
    stereo: bool = False
    words: int = 7
    past: int = 0
    pitches: Sequence[int] | None = None
    options: Mapping[str, Any] | None = None

    @property
    def how(self) -> dict[str, Any]:
        """The arguments of `LMModel.generate`."""
        return {"top_k": 20, "temp": 1.0, "cfg_coef": 3.0, **(self.options or {})}

    @property
    def books(self) -> int:
        return 8 if self.stereo else 4

    @property
    def prompt(self) -> Tensor:
        """codes [K, P]."""
        return torch.arange(self.books * self.past).mul(31).remainder(48).view(self.books, -1)


TUNE = tuple(place * 7 % 12 for place in range(MELODY))
CASES: dict[str, Case] = {
    "mono": Case(60, 1),
    "likeliest": Case(40, 0, options={"use_sampling": False}),
    "all": Case(40, 2, words=3, options={"top_k": 0, "temp": 0.7}),
    "unguided": Case(40, 3, options={"cfg_coef": 1.0}),
    "continued": Case(50, 4, past=13),
    "stereo": Case(50, 5, stereo=True),
    "melody": Case(50, 6, melody=True, pitches=TUNE),
    "no-melody": Case(40, 7, melody=True),
    "stereo-melody": Case(40, 8, melody=True, stereo=True, pitches=TUNE[::-1]),
}


def shapes(
    *, melody: bool = False, stereo: bool = False, **told: int
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that AudioCraft writes for such sizes."""
    usual = {"dim": DIMENSION, "layers": LAYERS, "scale": SCALE, "card": 48, "text": TEXT}
    sizes = usual | told
    wide, codes, hidden = sizes["dim"], sizes["card"], sizes["dim"] * sizes["scale"]
    found: dict[str, tuple[int, ...]] = {"out_norm.weight": (wide,), "out_norm.bias": (wide,)}
    for book in range(8 if stereo else 4):
        found[f"emb.{book}.weight"] = (codes + 1, wide)
        found[f"linears.{book}.weight"] = (codes, wide)
    attentions = ("self_attn",) if melody else ("self_attn", "cross_attention")
    norms = ("norm1", "norm2") if melody else ("norm1", "norm2", "norm_cross")
    for layer in range(sizes["layers"]):
        name = f"transformer.layers.{layer}"
        for attention in attentions:
            found[f"{name}.{attention}.in_proj_weight"] = (3 * wide, wide)
            found[f"{name}.{attention}.out_proj.weight"] = (wide, wide)
        found[f"{name}.linear1.weight"] = (hidden, wide)
        found[f"{name}.linear2.weight"] = (wide, hidden)
        for norm in norms:
            found[f"{name}.{norm}.weight"] = found[f"{name}.{norm}.bias"] = (wide,)
    heard = {"description": sizes["text"]} | ({"self_wav": 12} if melody else {})
    for condition, features in heard.items():
        name = f"condition_provider.conditioners.{condition}.output_proj"
        found[f"{name}.weight"], found[f"{name}.bias"] = (wide, features), (wide,)
    return found


def their_model(modules: Mapping[str, Any], case: Case, state: Mapping[str, Tensor]) -> Any:
    """AudioCraft's model with these weights; conditions are what T5 and spectra would have made."""
    said = modules["conditioners"]

    class Pitches(said.WaveformConditioner):  # type: ignore[name-defined, misc]
        """A sample is the pitch of a frame; a clip of none is a C, as silence has it."""

        def _get_wav_embedding(self, x: Any) -> Tensor:
            pitches = x.wav[:, 0].long()
            repeated = pitches.repeat(1, -(-MELODY // pitches.shape[1]))[:, :MELODY]
            return F.one_hot(repeated, 12).float()

    heard: dict[str, Any] = {"description": given_words(said, DIMENSION)}
    if case.melody:
        heard["self_wav"] = Pitches(12, DIMENSION, "cpu")
        heard["self_wav"]._use_masking = False  # as `MusicGen.get_pretrained` has it
    fused = cfg(melody=case.melody)["fuser"]
    kinds = ("cross", "prepend", "sum", "input_interpolate")
    unused = ("memory_efficient", "custom", "cross_attention", "n_q", "card", "checkpointing")
    sizes = {key: x for key, x in TRANSFORMER.items() if key not in unused}
    model = modules["lm"].LMModel(
        pattern_provider=modules["patterns"].DelayedPatternProvider(
            case.books, cfg(stereo=case.stereo)["codebooks_pattern"]["delay"]["delays"]
        ),
        condition_provider=said.ConditioningProvider(heard),
        fuser=said.ConditionFuser({kind: fused[kind] for kind in kinds}),
        n_q=case.books,
        card=48,
        custom=True,
        cross_attention=not case.melody,
        device="cpu",
        dtype=torch.float32,
        **sizes,
    )
    model.load_state_dict(state)
    return model.eval()


@torch.no_grad()
def their_codes(modules: Mapping[str, Any], case: Case, state: Mapping[str, Tensor]) -> Tensor:
    """codes [K, F] that AudioCraft makes of a case, what was before among them."""
    said = modules["conditioners"]
    attributes = said.ConditioningAttributes(text={"description": words(case.words, features=TEXT)})
    if case.melody:
        pitches = torch.tensor([[case.pitches or [0]]]).float()
        length = torch.tensor([pitches.shape[2] if case.pitches else 0])
        wave = said.WavCondition(pitches, length, [32_000], [None], [None])
        attributes.wav["self_wav"] = wave
    model = their_model(modules, case, state)
    torch.manual_seed(case.seed)
    codes: Tensor = model.generate(
        prompt=case.prompt[None] if case.past else None,
        conditions=[attributes],
        max_gen_len=case.frames,
        **case.how,
    )
    return codes[0]
