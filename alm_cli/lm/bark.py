"""Bark: text to speech by three language models, one after another (after AudioLM, 2209.03143).

Text becomes semantic tokens, these the first two codebooks of EnCodec at 24 kHz, taken in turn, and
these the other six, one book after another, each by one look at all frames. The codec itself is in
the checkpoint as well, but a model of its own: `alm_cli.systems.bark_speaker` loads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from alm_cli.checkpoints.family import Family, Settings, SettingsError
from alm_cli.checkpoints.generic import GENERIC, finish_section
from alm_cli.checkpoints.keymap import Shape, Verb, drop, rename
from alm_cli.checkpoints.split import SplitKeyMap
from alm_cli.nn.attention import Attention
from alm_cli.nn.linear import Linear, product
from alm_cli.nn.state import State
from alm_cli.nn.transformer import MLP, Block, Transformer

_GENERATION = "generation_config.json"
_STAGES = ("semantic", "coarse_acoustics", "fine_acoustics")
_HEAD = 64  # features of a head in every published model


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """The sizes of one of the three language models; `inputs` and `outputs` are vocabularies."""

    dimension: int
    heads: int
    layers: int
    inputs: int
    outputs: int
    positions: int
    bias: bool


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Which tokens mean what, and how far the stages look; `inputs` and windows are in tokens.

    `semantics` are the tokens of the first stage, of which the one after the last is both its end
    and what fills up.
    """

    text_offset: int = 10_048
    text_pad: int = 129_595
    semantic_infer: int = 129_599
    semantics: int = 10_000
    semantic_rate: float = 49.9
    semantic_most: int = 768
    inputs: int = 256
    coarse_pad: int = 12_048
    coarse_infer: int = 12_050
    coarse_rate: float = 75.0
    coarse_history: int = 630
    coarse_window: int = 60
    fine_history: int = 512
    fine_window: int = 1024
    codes: int = 1024
    books: int = 8
    rate: int = 24_000

    @property
    def ratio(self) -> float:
        """Coarse tokens, of two books, for a semantic one."""
        return self.coarse_rate / self.semantic_rate * 2

    @property
    def semantic_history(self) -> int:
        """Semantic tokens that are as long as the longest coarse history."""
        return int(self.coarse_history / self.ratio)


@dataclass(frozen=True, kw_only=True)
class HubSampling:
    """How `generation_config.json` asks to draw; `transformers` leaves `top_k` at 50.

    `fine_temperature` None or 1 takes the likeliest, and so does a stage that is not `sampled`.
    """

    semantic_sampled: bool = False
    coarse_sampled: bool = False
    temperature: tuple[float, float] = (1.0, 1.0)
    top_k: tuple[int, int] = (50, 50)
    top_p: tuple[float, float] = (1.0, 1.0)
    fine_temperature: float | None = 1.0
    least_end: float | None = None


@dataclass(frozen=True, kw_only=True)
class BarkConfig:
    """The three stages, what their tokens mean, and the settings of the codec, where it is here."""

    semantic: StageSpec
    coarse: StageSpec
    fine: StageSpec
    numbers: Numbers
    hub: HubSampling
    codec: Mapping[str, object] | None

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> BarkConfig:
        """Read the published `config.json`; what this file does not build is an error."""
        told = _section(raw, _GENERATION)
        settings = Settings({key: raw[key] for key in raw.keys() - GENERIC - {_GENERATION}})
        for stage in (*_STAGES, "codec"):
            settings.only(f"{stage}_config", raw.get(f"{stage}_config"))
        settings.finish()
        semantic, coarse, fine = (
            _stage(_section(raw, f"{stage}_config"), stage) for stage in _STAGES
        )
        codec = raw.get("codec_config")
        config = cls(
            semantic=semantic,
            coarse=coarse,
            fine=fine,
            numbers=_numbers(told),
            hub=_hub_sampling(told),
            codec={key: value for key, value in codec.items() if key not in GENERIC}
            if isinstance(codec, Mapping)
            else None,
        )
        _check(config)
        return config


def _section(raw: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = raw.get(key)
    return value if isinstance(value, Mapping) else {}


def _stage(raw: Mapping[str, object], stage: str) -> StageSpec:
    """The sizes of a stage. SettingsError: they are not what this file builds."""
    settings = Settings({key: raw[key] for key in raw.keys() - GENERIC})
    spec = StageSpec(
        dimension=settings.number("hidden_size", 768),
        heads=settings.number("num_heads", 12, most=256),
        layers=settings.number("num_layers", 12, most=256),
        inputs=settings.number("input_vocab_size", 10_048),
        outputs=settings.number("output_vocab_size", 10_048),
        positions=settings.number("block_size", 1024),
        bias=settings.truth("bias", True),
    )
    if stage == "fine_acoustics":
        settings.only("n_codes_total", 8)
        settings.only("n_codes_given", 1)
    settings.only("tie_word_embeddings", True, False)
    finish_section(settings, f"{stage}_config")
    if spec.dimension % spec.heads:
        raise _misfit(stage, f"{spec.heads} heads do not divide {spec.dimension} features")
    return spec


def _numbers(told: Mapping[str, object]) -> Numbers:
    """What `generation_config.json` says of the tokens; what it lacks is as published."""
    names = {
        "semantic_config": {
            "text_encoding_offset": "text_offset",
            "text_pad_token": "text_pad",
            "semantic_infer_token": "semantic_infer",
            "semantic_vocab_size": "semantics",
            "semantic_rate_hz": "semantic_rate",
            "max_new_tokens": "semantic_most",
            "max_input_semantic_length": "inputs",
        },
        "coarse_acoustics_config": {
            "coarse_semantic_pad_token": "coarse_pad",
            "coarse_infer_token": "coarse_infer",
            "coarse_rate_hz": "coarse_rate",
            "max_coarse_history": "coarse_history",
            "sliding_window_len": "coarse_window",
        },
        "fine_acoustics_config": {
            "max_fine_history_length": "fine_history",
            "max_fine_input_length": "fine_window",
        },
    }
    found: dict[str, float] = {}
    for section, keys in names.items():
        given = _section(told, section)
        found |= {ours: _amount(given, key) for key, ours in keys.items() if key in given}
    found |= {
        ours: _amount(told, key)
        for key, ours in (("codebook_size", "codes"), ("sample_rate", "rate"))
        if key in told
    }
    rates = ("semantic_rate", "coarse_rate")
    return Numbers(**{k: v if k in rates else int(v) for k, v in found.items()})  # type: ignore[arg-type]


def _amount(given: Mapping[str, object], key: str) -> float:
    value = given[key]
    if type(value) in (int, float) and 0 < value <= 1_000_000:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    raise SettingsError(
        f"{_GENERATION}: {key} is {str(value)[:40]}, not a positive number",
        hint="take the file that came with the weights",
        keys=frozenset({_GENERATION}),
    )


def _hub_sampling(told: Mapping[str, object]) -> HubSampling:
    """How `generation_config.json` asks to draw; null is not asked."""
    sections = [
        {
            key: value
            for key, value in _section(told, f"{stage}_config").items()
            if value is not None
        }
        for stage in _STAGES
    ]
    semantic, coarse, fine = sections

    def pair(key: str, default: float) -> tuple[float, float]:
        both = [_amount(part, key) if part.get(key) else default for part in (semantic, coarse)]
        return both[0], both[1]

    top_k = pair("top_k", 50)
    return HubSampling(
        semantic_sampled=semantic.get("do_sample") is True,
        coarse_sampled=coarse.get("do_sample") is True,
        temperature=pair("temperature", 1.0),
        top_k=(int(top_k[0]), int(top_k[1])),
        top_p=pair("top_p", 1.0),
        fine_temperature=_amount(fine, "temperature") if "temperature" in fine else 1.0,
        least_end=_amount(semantic, "min_eos_p") if "min_eos_p" in semantic else None,
    )


def _check(config: BarkConfig) -> None:
    """Refuse numbers that point beside the vocabularies or beyond the positions."""
    numbers, coarse = config.numbers, config.semantic.inputs
    books = numbers.semantics + 2 * numbers.codes
    for stage, fits in (
        ("semantic", max(numbers.text_pad, numbers.semantic_infer) < coarse),
        ("semantic", numbers.text_offset <= numbers.text_pad),
        ("semantic", numbers.semantics < config.semantic.outputs),
        ("semantic", numbers.inputs + numbers.semantic_most <= config.semantic.positions),
        ("coarse_acoustics", max(numbers.coarse_pad, numbers.coarse_infer) < config.coarse.inputs),
        ("coarse_acoustics", books <= min(config.coarse.inputs, config.coarse.outputs)),
        ("coarse_acoustics", _coarse_longest(numbers) <= config.coarse.positions),
        ("coarse_acoustics", numbers.coarse_window % 2 == 0 == numbers.coarse_history % 2),
        ("coarse_acoustics", numbers.coarse_history >= numbers.coarse_window),
        ("fine_acoustics", numbers.fine_window <= config.fine.positions),
        ("fine_acoustics", numbers.fine_history <= numbers.fine_window),
        ("fine_acoustics", numbers.codes < min(config.fine.inputs, config.fine.outputs)),
    ):
        if not fits:
            raise _misfit(stage, f"the tokens of {_GENERATION} do not fit its sizes")


def _coarse_longest(numbers: Numbers) -> int:
    return numbers.inputs + numbers.coarse_history + numbers.coarse_window


def _misfit(stage: str, what: str) -> SettingsError:
    return SettingsError(
        f"config.json, {stage}_config: {what}",
        hint="take the files that came with the weights",
        keys=frozenset({f"{stage}_config"}),
    )


class Bark(nn.Module):
    """The three stages; how tokens are drawn from them is told by `alm_cli.systems.bark_stages`."""

    def __init__(self, config: BarkConfig) -> None:
        super().__init__()
        self.numbers, self.hub, self.codec = config.numbers, config.hub, config.codec
        self.semantic = CausalStage(config.semantic)
        self.coarse = CausalStage(config.coarse)
        self.fine = FineStage(config.fine, config.numbers.books)


class CausalStage(nn.Module):
    """Semantic or coarse tokens, one after another."""

    def __init__(self, spec: StageSpec) -> None:
        super().__init__()
        self.embedding = _embedding(spec)
        self.positions = nn.Parameter(torch.zeros(spec.positions, spec.dimension))
        self.transformer = Transformer(_block(spec, causal=True) for _ in range(spec.layers))
        self.norm = nn.LayerNorm(spec.dimension, bias=spec.bias)
        self.output = Linear(spec.dimension, spec.outputs, bias=False)

    def forward(self, x: Tensor, state: State) -> Tensor:
        """x [B, S, D], embedded, after what `state` knows -> logits [B, V] float32 of the next."""
        reached = state.get(self, _Reached)
        state.put(self, _Reached(reached.length + x.shape[1]))
        positions = self.positions[reached.length : reached.length + x.shape[1]]
        x = self.transformer(x + positions, state=state)
        return self.output(self.norm(x[:, -1])).float()


class _Reached:
    """How many positions a stream has gone through; the same for all its rows."""

    def __init__(self, length: int = 0) -> None:
        self.length = length

    def reorder(self, rows: Tensor) -> None:
        """Rows are as long as one another."""

    def fork(self) -> _Reached:
        """As long."""
        return self


class FineStage(nn.Module):
    """The codes of one book from those of the books before it, at all frames at once.

    What a book is told by is how it is embedded: heads have no weights of their own.
    """

    def __init__(self, spec: StageSpec, books: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(_embedding(spec) for _ in range(books))
        self.positions = nn.Parameter(torch.zeros(spec.positions, spec.dimension))
        self.transformer = Transformer(_block(spec, causal=False) for _ in range(spec.layers))
        self.norm = nn.LayerNorm(spec.dimension)

    def forward(self, codes: Tensor, book: int, begin: int = 0) -> Tensor:
        """codes [B, K, F], of which all to `book` itself count -> logits [B, F - begin, V] float32.

        They are those of the frames from `begin` on.
        """
        # _compat_own_book: what stands in the book's own place, filler at first, is looked at too.
        x = sum(self.embeddings[k](codes[:, k]) for k in range(book + 1))
        x = self.norm(self.transformer(x + self.positions[: codes.shape[2]])[:, begin:])
        weight = self.embeddings[book].weight
        assert isinstance(weight, Tensor)
        return product(x, weight).float()


def _embedding(spec: StageSpec) -> nn.Embedding:
    # Not random at first: on the meta device that would import torch's compiler.
    table = torch.zeros(spec.inputs, spec.dimension)
    return nn.Embedding(spec.inputs, spec.dimension, _weight=table)


def _block(spec: StageSpec, *, causal: bool) -> Block:
    wide = spec.dimension
    attention = Attention(wide, spec.heads, bias=spec.bias, causal=causal)
    norm = partial(nn.LayerNorm, wide, bias=spec.bias or not causal)
    return Block(attention, MLP(wide, 4 * wide, bias=spec.bias), norm)


# The hub's names and those of Suno's program, whose stages are files of their own.
_OF = "{of:weight,bias}"
_IN_BLOCK = (
    ("layernorm_1", "ln_1", "attention_norm"),
    ("attn.out_proj", "attn.c_proj", "attention.out"),
    ("layernorm_2", "ln_2", "mlp_norm"),
    ("mlp.in_proj", "mlp.c_fc", "mlp.up"),
    ("mlp.out_proj", "mlp.c_proj", "mlp.down"),
)
_TOGETHER = ("att_proj.weight", "att_proj.bias", "c_attn.weight", "c_attn.bias")


def _stage_keys(hub: str, suno: str, ours: str) -> Iterator[Verb]:
    """What a stage is called; `fine` has a table for every book, tied to the heads."""
    root = f"{suno}.{{root:_orig_mod.,}}"
    blocks = f"{ours}.transformer.blocks.{{i}}"
    pairs = [
        (f"{hub}.position_embeds_layer.weight", f"{root}transformer.wpe.weight", "positions"),
        (f"{hub}.layernorm_final.{_OF}", f"{root}transformer.ln_f.{_OF}", "norm.{of}"),
    ]
    if suno == "fine":
        tables = f"{hub}.input_embeds_layers.{{i}}.weight", f"{root}transformer.wtes.{{i}}.weight"
        pairs += [(*tables, "embeddings.{i}.weight")]
        yield from (drop(f"{hub}.lm_heads.{{i}}.weight"), drop(f"{root}lm_heads.{{i}}.weight"))
    else:
        table = f"{hub}.input_embeds_layer.weight", f"{root}transformer.wte.weight"
        pairs += [(*table, "embedding.weight")]
        pairs += [(f"{hub}.lm_head.weight", f"{root}lm_head.weight", "output.weight")]
    for one, other, target in pairs:
        yield from (rename(one, f"{ours}.{target}"), rename(other, f"{ours}.{target}"))
    for theirs, place in ((f"{hub}.layers.{{i}}", 0), (f"{root}transformer.h.{{i}}", 1)):
        for names in _IN_BLOCK:
            yield rename(f"{theirs}.{names[place]}.{_OF}", f"{blocks}.{names[2]}.{{of}}")
        joined = f"{theirs}.attn.{('att_proj', 'c_attn')[place]}.{_OF}.{{part:q,k,v}}"
        yield rename(joined, f"{blocks}.attention.{{part}}.{{of}}")
        yield drop(f"{theirs}.attn.bias")  # which positions are hidden


KEYS = SplitKeyMap(
    dict.fromkeys(_TOGETHER, ("q", "k", "v")),
    *_stage_keys("semantic", "text", "semantic"),
    *_stage_keys("coarse_acoustics", "coarse", "coarse"),
    *_stage_keys("fine_acoustics", "fine", "fine"),
    drop("codec_model.*"),
)


def sniff(shapes: Mapping[str, Shape], said: Mapping[str, object]) -> Mapping[str, object] | None:
    """The settings of a folder with Suno's three files, `text`, `coarse` and `fine`.

    What they say of themselves tells the heads; where they do not, these have 64 features.
    """
    plain = {name.replace("._orig_mod.", "."): shape for name, shape in shapes.items()}
    found: dict[str, object] = {}
    for hub, suno in zip(_STAGES, ("text", "coarse", "fine"), strict=True):
        fine = suno == "fine"
        table = plain.get(f"{suno}.transformer.{'wtes.0' if fine else 'wte'}.weight", ())
        head = table if fine else plain.get(f"{suno}.lm_head.weight", ())
        places = plain.get(f"{suno}.transformer.wpe.weight", ())
        if not len(table) == len(places) == len(head) == 2:
            return None
        told = _section(_section(said, suno), "model_args")
        blocks = f"{suno}.transformer.h."
        found[f"{hub}_config"] = {
            "hidden_size": table[1],
            "num_heads": told.get("n_head", max(1, table[1] // _HEAD)),
            "num_layers": len(
                [n for n in plain if n.startswith(blocks) and n.endswith(".c_fc.weight")]
            ),
            "input_vocab_size": table[0],
            "output_vocab_size": head[0],
            "block_size": places[0],
            "bias": f"{blocks}0.mlp.c_fc.bias" in plain,
        }
    return found


FAMILY = Family(BarkConfig.from_hub, Bark, KEYS, sniff, beside=(_GENERATION,))
