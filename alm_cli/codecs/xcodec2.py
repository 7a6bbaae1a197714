"""X-Codec 2 (arXiv:2502.04128) and NeuCodec (arXiv:2509.09550): one codebook of 65536 at 50 Hz.

Both code speech at 16 kHz; NeuCodec decodes to 24 kHz. Half of what is coded are the features of a
w2v-BERT 2.0.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import Shape, Step, Verb, drop, fold_weight_norm, rename
from alm_cli.checkpoints.split import SplitKeyMap
from alm_cli.checkpoints.w2v_bert import conformer_keys, conformer_sizes
from alm_cli.errors import ModelError
from alm_cli.nn.alias_free import AliasFree, SnakeBeta, bent_down
from alm_cli.nn.attention import Attention
from alm_cli.nn.blocks import in_blocks
from alm_cli.nn.conformer import Conformer, ConformerSpec
from alm_cli.nn.conv import Conv
from alm_cli.nn.fbank import HOP, fbank, paired, standardised
from alm_cli.nn.fsq import FSQ
from alm_cli.nn.istft import ISTFTHead
from alm_cli.nn.resnet import ResNetBlock
from alm_cli.nn.stack import Chain
from alm_cli.nn.state import State
from alm_cli.nn.transformer import MLP, Block, Transformer
from alm_cli.nn.whole import heard

# Two frames of the filter bank make one of the semantic features.
_RATE, _HOP = 16_000, 2 * HOP
_GROUPS, _MOST_CODES = 32, 1 << 20


@dataclass(frozen=True, kw_only=True)
class Xcodec2Config:
    """The architecture, in the words of the kit."""

    semantic: ConformerSpec
    output_rate: int
    width: int  # of the acoustic encoder's first stage, doubled by each
    ratios: tuple[int, ...]
    levels: tuple[int, ...]
    dimension: int  # of the acoustic features and of the decoder
    hidden: int
    heads: int
    head_dimension: int
    depth: int
    margin: int  # samples of silence on either side of the wave of which spectra are taken

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> Xcodec2Config:
        """Read the published `config.json`; what this file does not build is an error."""
        raw = _translated(raw)
        settings = Settings({key: value for key, value in raw.items() if key not in _UNUSED})
        neu = raw.get("model_type") == "neucodec"
        semantic = _semantic(raw.get("semantic_model_config"))
        dimension = settings.number("hidden_size", 1024)
        heads = settings.number("num_attention_heads", 16)
        settings.only("input_sampling_rate" if neu else "sampling_rate", _RATE)
        config = cls(
            semantic=semantic,
            output_rate=settings.number("output_sampling_rate", 24_000) if neu else _RATE,
            width=settings.number("encoder_hidden_size", 48),
            ratios=settings.numbers("downsampling_ratios", (2, 2, 4, 4, 5)),
            levels=settings.numbers("quantization_levels", (4,) * 8),
            dimension=dimension,
            hidden=settings.number("intermediate_size", 4096),
            heads=heads,
            head_dimension=settings.number("head_dim", 64),
            depth=settings.number("num_hidden_layers", 12, most=256),
            margin=0 if neu else _HOP // 2,
        )
        _refuse_others(settings, config)
        settings.only("num_key_value_heads", heads)
        settings.finish()
        return config


def _translated(raw: Mapping[str, object]) -> Mapping[str, object]:
    """The settings of the first release, which says little, as those of the hub's own library."""
    if raw.get("model_type") not in ("bigcodec", "xcodec"):
        return raw
    settings = Settings({key: value for key, value in raw.items() if key != "auto_map"})
    settings.only("codec_decoder_hidden_size", 1024)
    if "codec_decoder_hidden_size" not in raw:
        raise ModelError(
            "config.json: this is an X-Codec of the first generation",
            hint="alm has the second, which `alm models` calls xcodec2",
        )
    for key in ("semantic_hidden_size", "codec_encoder_hidden_size"):
        settings.only(key, 1024)
    settings.only("use_vocos", True)
    settings.finish()
    return {"model_type": "xcodec2"}


def _semantic(raw: object) -> ConformerSpec:
    """The w2v-BERT in a codec, of which the first 16 layers are used."""
    within = "semantic_model_config"
    given = raw if isinstance(raw, Mapping) else {}
    return ConformerSpec(**conformer_sizes({"num_hidden_layers": 16} | dict(given), within))


def _refuse_others(settings: Settings, config: Xcodec2Config) -> None:
    """Ask for what is published where something else cannot be built."""
    if prod(config.ratios) != _HOP:
        settings.only("downsampling_ratios", [2, 2, 4, 4, 5])
    if min(config.levels) < 2 or prod(config.levels) > _MOST_CODES:
        settings.only("quantization_levels", [4] * 8)
    if config.dimension % _GROUPS:
        settings.only("hidden_size", 1024)
    if config.output_rate * _HOP % (2 * _RATE):
        settings.only("output_sampling_rate", 24_000)
    settings.only("quantization_dim", config.dimension + config.semantic.dimension)
    settings.only("hidden_act", "silu")
    settings.only("rms_norm_eps", 1e-6)
    settings.only("attention_bias", False)


# Settings that are about training, and about rotary positions, which have no effect: see Decoder.
_UNUSED = frozenset({
    "activation_dropout", "attention_dropout", "audio_channels", "initializer_range",
    "max_position_embeddings", "pad_token_id", "rope_parameters", "semantic_model_config",
    "tie_word_embeddings",
})  # fmt: skip


class Xcodec2(nn.Module):
    """wave [B, 1, T] at 16 kHz -> codes [B, 1, F] -> wave at `output_rate`.

    Every code depends on the whole recording (normalised spectra, attention), and so does every
    decoded sample (normalised groups, attention): a stream answers at its last call. The acoustic
    encoder works in blocks; the rest needs memory in proportion to the length, and time that grows
    with its square, as upstream.

    F is T // hop + 1 of X-Codec 2, as silence is always added up to the next frame; of NeuCodec it
    is T // hop, because its spectra lack the last frame, but at least 1.
    """

    rate, channels, hop, delay = _RATE, 1, _HOP, 0
    block_frames = 100

    def __init__(self, config: Xcodec2Config) -> None:
        super().__init__()
        self.output_rate, self._margin = config.output_rate, config.margin
        semantic, acoustic = config.semantic.dimension, config.dimension
        self.semantic = Conformer(config.semantic)
        self.adapter = SemanticAdapter(semantic)
        self.acoustic = _acoustic_encoder(config)
        self.join = nn.Linear(semantic + acoustic, semantic + acoustic)
        self.quantizer = FSQ(config.levels)
        self.narrow = nn.Linear(semantic + acoustic, len(config.levels))
        self.widen = nn.Linear(len(config.levels), semantic + acoustic)
        self.decoder = Decoder(config)
        self.vocabularies = (self.quantizer.vocabulary,)

    def encode(
        self, wave: Tensor, codebooks: int | None = None, state: State | None = None
    ) -> Tensor:
        """wave [B, 1, T] -> codes [B, 1, F] int64."""
        del codebooks  # there is one
        whole = heard(self, wave, state, None)
        if not whole.shape[-1]:
            return torch.zeros(wave.shape[0], 1, 0, dtype=torch.int64, device=wave.device)
        return torch.cat([self._codes(row) for row in torch.split(whole, 1)])

    def decode(self, codes: Tensor, state: State | None = None) -> Tensor:
        """codes [B, 1, F] -> wave [B, 1, n] float32 at `output_rate`."""
        whole = heard(self.decoder, codes, state, None)
        if not whole.shape[-1]:
            return torch.zeros(codes.shape[0], 1, 0, device=codes.device)
        rows = [self.quantizer.decode(row[:, 0]).to(self._dtype) for row in torch.split(whole, 1)]
        return torch.cat([self.decoder(self.widen(row)) for row in rows])

    def _codes(self, wave: Tensor) -> Tensor:
        """wave [1, 1, T] -> codes [1, 1, F]."""
        frames = wave.shape[-1] // self.hop + 1
        if not self._margin:
            # The reference refuses what is shorter than a window of its spectra; here silence
            # follows until there is a frame.
            frames = max(frames, 2)
        wave = F.pad(wave, (0, frames * self.hop - wave.shape[-1]))
        semantic = self._semantic_features(wave)
        acoustic = self._acoustic_features(wave)[..., : semantic.shape[-1]]
        joined = self.join(torch.cat((semantic, acoustic), 1).mT)
        # _compat_bounded_twice: the quantiser bounds its input, and what it is given is bounded
        # already.
        return self.quantizer.encode(self.quantizer.bound(self.narrow(joined)))[:, None]

    def _semantic_features(self, wave: Tensor) -> Tensor:
        """wave [1, 1, n * hop] -> [1, D, n], or one frame less without a margin."""
        spectra = fbank(F.pad(wave[:, 0].float(), (self._margin, self._margin)))
        return self.adapter(self.semantic(paired(standardised(spectra)).to(self._dtype)).mT)

    def _acoustic_features(self, wave: Tensor) -> Tensor:
        """wave [1, 1, n * hop] -> [1, D, n]."""
        if wave.device.type == "cpu":
            return in_blocks(self.acoustic, wave.to(self._dtype), self.block_frames * self.hop)
        return self.acoustic(wave.to(self._dtype))

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def _acoustic_encoder(config: Xcodec2Config) -> Chain:
    """wave [B, 1, T] -> [B, D, T / hop]."""
    widths = [config.width << i for i in range(len(config.ratios) + 1)]
    parts: dict[str, nn.Module] = {
        "first": Conv(1, config.width, 7, causal=False),
        "stages": Chain(*map(bent_down, widths, config.ratios)),
        "activation": AliasFree(SnakeBeta(widths[-1])),
        "last": Conv(widths[-1], config.dimension, 3, causal=False),
    }
    return Chain(OrderedDict(parts))


class SemanticAdapter(nn.Module):
    """Four convolutions, of which the two in the middle are added to their input."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        conv = partial(Conv, dimension, dimension, 3, causal=False)
        self.first, self.last = conv(bias=False), conv(bias=False)
        self.middle = nn.ModuleList((conv(), conv()))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, D, F] -> [B, D, F]."""
        # _compat_rectified_skip: upstream rectifies in place, and so what is added as well.
        x = self.first(x).relu()
        x = x + self.middle[1](self.middle[0](x).relu())
        return self.last(x)


class Decoder(nn.Module):
    """Widened codes [B, F, N] -> wave [B, 1, F * hop].

    _compat_rotary_over_heads: upstream turns the queries and keys of head h by the angles of
    position h, at every time. The product of two vectors that are turned alike is that of the
    vectors themselves, so nothing is turned here, and attention does not know where anything
    stands in time.
    """

    def __init__(self, config: Xcodec2Config) -> None:
        super().__init__()
        dimension = config.dimension
        hop = _HOP * config.output_rate // _RATE
        self.narrow = nn.Linear(config.semantic.dimension + dimension, dimension)
        self.embed = Conv(dimension, dimension, 7, causal=False)
        self.before = nn.Sequential(*(ResNetBlock(dimension, groups=_GROUPS) for _ in range(2)))
        self.transformer = Transformer(_block(config) for _ in range(config.depth))
        self.after = nn.Sequential(*(ResNetBlock(dimension, groups=_GROUPS) for _ in range(2)))
        self.norm = nn.LayerNorm(dimension, eps=1e-6)
        self.head = ISTFTHead(dimension, 4 * hop, hop)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, F, N] -> wave [B, 1, F * hop]."""
        x = self.before(self.embed(self.narrow(x).mT)).mT
        x = self.after(self.transformer(x).mT).mT
        return self.head(self.norm(x))


def _block(config: Xcodec2Config) -> Block:
    attention = Attention(config.dimension, config.heads, head_dimension=config.head_dimension)
    mlp = MLP(config.dimension, config.hidden, activation=F.silu)
    return Block(attention, mlp, partial(_Norm, config.dimension, eps=1e-6))


class _Norm(nn.RMSNorm):
    """In the precision of its weight: torch's own warns where another is computed in."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


# The layouts of the hub's own library and of the first release; NeuCodec's first release has no
# w2v-BERT in it.
_LEAF = "{leaf:weight,bias}"
_DECODER = "{decoder:acoustic_decoder,generator.backbone}"
_LAYER = "{layers:acoustic_decoder.layers,generator.backbone.transformers}.{i}"
_BLOCK = "decoder.transformer.blocks.{i}"
_FIRST_LAYERS, _LAST_LAYERS = (
    ",".join(map(str, numbers)) for numbers in (range(16), range(16, 24))
)


def _conv(theirs: str, ours: str) -> tuple[Verb, ...]:
    return (
        fold_weight_norm(theirs, f"{ours}.weight"),
        rename(f"{theirs}.bias", f"{ours}.bias"),
    )


def _bend(theirs: str, ours: str) -> tuple[Verb, ...]:
    return (
        rename(f"{theirs}.act.alpha", f"{ours}.activation.alpha"),
        rename(f"{theirs}.act.{{name:beta,bias}}", f"{ours}.activation.beta"),
        drop(f"{theirs}.{{half:upsample,downsample}}.*"),  # filters that are known
    )


def _stage(theirs: str, ours: str, units: tuple[str, ...], names: tuple[str, ...]) -> list[Verb]:
    """Verbs of a stage: the names of its units, of four parts of a unit, of two after the units."""
    verbs: list[Verb] = []
    for index, unit in enumerate(units):
        for make, name, role in (
            (_bend, names[0], "before"),
            (_conv, names[1], "first"),
            (_bend, names[2], "between"),
            (_conv, names[3], "second"),
        ):
            verbs += make(f"{theirs}.{unit}.{name}", f"{ours}.{index}.{role}")
    verbs += _bend(f"{theirs}.{names[4]}", f"{ours}.{len(units)}")
    verbs += _conv(f"{theirs}.{names[5]}", f"{ours}.{len(units) + 1}")
    return verbs


def _resnet(theirs: str, ours: str) -> list[Verb]:
    """Verbs of two residual blocks of the decoder."""
    verbs: list[Verb] = []
    for number, name in ((1, "first"), (2, "second")):
        their, our = f"{_DECODER}.{theirs}.{{i}}", f"decoder.{ours}.{{i}}.{name}"
        verbs += _conv(f"{their}.conv{number}", our)
        verbs.append(rename(f"{their}.norm{number}.{_LEAF}", f"{our}_norm.{{leaf}}"))
    return verbs


class _Keys(SplitKeyMap):
    """In the first release one tensor holds queries, keys and values, in this order."""

    def plan(self, theirs: Mapping[str, Shape], ours: Mapping[str, Shape]) -> list[Step]:
        names = {name.replace(".c_attn.weight", ".c_attn"): name for name in theirs}
        steps = super().plan({short: theirs[name] for short, name in names.items()}, ours)
        return [
            Step(step.target, tuple(names[source] for source in step.sources), step.combine)
            for step in steps
        ]


KEYS = _Keys(
    {"c_attn": ("q", "k", "v")},
    *conformer_keys("semantic_encoder.", "semantic."),
    *conformer_keys("semantic_model.", "semantic.", layers=f"{{i:{_FIRST_LAYERS}}}"),
    drop(f"semantic_model.encoder.layers.{{i:{_LAST_LAYERS}}}.*"),  # the 16th is listened to
    *_conv("{a:semantic_adapter.conv1,SemanticEncoder_module.initial_conv}", "adapter.first"),
    *_conv(
        "{a:semantic_adapter.conv2,SemanticEncoder_module.residual_blocks.1}", "adapter.middle.0"
    ),
    *_conv(
        "{a:semantic_adapter.conv3,SemanticEncoder_module.residual_blocks.3}", "adapter.middle.1"
    ),
    *_conv("{a:semantic_adapter.conv4,SemanticEncoder_module.final_conv}", "adapter.last"),
    *_conv("{a:acoustic_encoder.conv1,CodecEnc.conv_blocks.0}", "acoustic.first"),
    *_stage(
        "acoustic_encoder.block.{i}",
        "acoustic.stages.{i}",
        ("res_unit1", "res_unit2", "res_unit3"),
        ("snake1", "conv1", "snake2", "conv2", "snake1", "conv1"),
    ),
    *(
        verb
        for index in range(5)
        for verb in _stage(
            f"CodecEnc.conv_blocks.{index + 1}.block",
            f"acoustic.stages.{index}",
            ("0.block", "1.block", "2.block"),
            ("0", "1", "2", "3", "3", "4"),
        )
    ),
    *_bend("{a:acoustic_encoder.snake1,CodecEnc.conv_final_block.0}", "acoustic.activation"),
    *_conv("{a:acoustic_encoder.conv2,CodecEnc.conv_final_block.1}", "acoustic.last"),
    rename(f"{{a:fc_encoder,fc_prior}}.{_LEAF}", "join.{leaf}"),
    rename(f"{{a:,generator.}}quantizer.project_in.{_LEAF}", "narrow.{leaf}"),
    rename(f"{{a:,generator.}}quantizer.project_out.{_LEAF}", "widen.{leaf}"),
    rename(f"{{a:acoustic_decoder.fc,fc_post_a}}.{_LEAF}", "decoder.narrow.{leaf}"),
    *_conv(f"{_DECODER}.embed", "decoder.embed"),
    *_resnet("prior_net", "before"),
    *_resnet("post_net", "after"),
    rename(
        f"{_LAYER}.{{a:self_attn,att.c_attn}}.{{part:q,k,v}}{{b:_proj.weight,}}",
        f"{_BLOCK}.attention.{{part}}.weight",
    ),
    rename(f"{_LAYER}.{{a:self_attn.o_proj,att.c_proj}}.weight", f"{_BLOCK}.attention.out.weight"),
    rename(f"{_LAYER}.{{a:input_layernorm,att_norm}}.weight", f"{_BLOCK}.attention_norm.weight"),
    rename(f"{_LAYER}.{{a:post_attention_layernorm,ffn_norm}}.weight", f"{_BLOCK}.mlp_norm.weight"),
    rename(f"{_LAYER}.mlp.fc1.weight", f"{_BLOCK}.mlp.up.weight"),
    rename(f"{_LAYER}.mlp.fc2.weight", f"{_BLOCK}.mlp.down.weight"),
    rename(f"{_DECODER}.{{a:norm,final_layer_norm}}.{_LEAF}", "decoder.norm.{leaf}"),
    rename(
        f"{{a:acoustic_decoder.head.linear,generator.head.out}}.{_LEAF}", "decoder.head.out.{leaf}"
    ),
    drop("generator.head.istft.window"),
)


def _sniffed(
    shapes: Mapping[str, Shape],
    said: Mapping[str, object],  # noqa: ARG001 - of training, if anything
) -> Mapping[str, object] | None:
    """The settings of weights without a config.json: the width of the last layer tells which."""
    heads = ("acoustic_decoder.head.linear.weight", "generator.head.out.weight")
    head = next((shapes[name] for name in heads if name in shapes), None)
    if head is None or not any(name.startswith(("fc_encoder.", "fc_prior.")) for name in shapes):
        return None
    if not any(name.startswith(("semantic_encoder.", "semantic_model.")) for name in shapes):
        raise ModelError(
            "the checkpoint of the codec lacks the w2v-BERT 2.0 that it listens with",
            hint="use the safetensors that transformers reads, such as `--model neucodec` fetches",
        )
    return {"model_type": "xcodec2" if head[0] == 4 * _HOP + 2 else "neucodec"}


FAMILY = Family(Xcodec2Config.from_hub, Xcodec2, KEYS, _sniffed)
