"""VITS: text to a wave in one network, in MMS for 1,100 languages (arXiv:2106.06103, 2305.13516).

Text becomes a distribution of latents for every character, durations say how many frames each
lasts, a flow turns what is drawn into latents of speech, and a HiFi-GAN makes the wave.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alm_cli.checkpoints.family import Family, Settings
from alm_cli.checkpoints.keymap import KeyMap, drop, fold_weight_norm, merge, offer, rename
from alm_cli.checkpoints.upsampler import upsampler_keys, upsampler_sizes
from alm_cli.nn.attention import Attention
from alm_cli.nn.conv import Conv
from alm_cli.nn.durations import FlowDurations, PlainDurations
from alm_cli.nn.near_attention import NearAttention
from alm_cli.nn.pointwise import Pointwise
from alm_cli.nn.state import State
from alm_cli.nn.transformer import PostNormBlock, Transformer
from alm_cli.nn.upsampler import UpsamplerSpec, WaveUpsampler
from alm_cli.nn.wavenet import WaveNet
from alm_cli.text.characters import Characters

_TOKENIZER = ("vocab.json", "tokenizer_config.json")
# Settings of training, and of parts that only training has.
_UNUSED = frozenset({
    *_TOKENIZER, "activation_dropout", "attention_dropout", "bos_token_id",
    "chunk_size_feed_forward", "duration_predictor_dropout", "eos_token_id", "hidden_dropout",
    "id2label", "initializer_range", "is_encoder_decoder", "label2id", "layerdrop",
    "output_attentions", "output_hidden_states", "pad_token_id",
    "posterior_encoder_num_wavenet_layers", "problem_type", "spectrogram_bins", "wavenet_dropout",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class VitsConfig:
    """The architecture, how lively and fast the model speaks by itself, and what it reads.

    Without a `vocab.json` beside it nothing is known of that.
    """

    rate: int
    vocabulary: int
    dimension: int
    hidden: int
    kernel: int  # of the feed-forward parts
    layers: int
    heads: int
    bias: bool
    window: int
    latents: int
    couplings: int
    coupling_layers: int
    coupling_kernel: int
    coupling_growth: int
    drawn: bool  # durations come from a flow
    flows: int
    pieces: int
    duration_kernel: int
    duration_layers: int
    duration_hidden: int
    speakers: int
    speaker: int  # features of a speaker's vector, 0 for one speaker
    upsampler: UpsamplerSpec
    speed: float
    noise: float
    duration_noise: float
    characters: Characters | None = None

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> VitsConfig:
        """Read the published `config.json`; what this file does not build is an error."""
        settings = Settings({key: raw[key] for key in raw.keys() - _UNUSED})
        vocabulary = settings.number("vocab_size", 38)
        speakers = settings.number("num_speakers", 1, most=100_000)
        latents = settings.number("flow_size", 192)
        config = cls(
            rate=settings.number("sampling_rate", 16_000),
            vocabulary=vocabulary,
            dimension=settings.number("hidden_size", 192),
            hidden=settings.number("ffn_dim", 768),
            kernel=settings.number("ffn_kernel_size", 3, most=99),
            layers=settings.number("num_hidden_layers", 6, most=256),
            heads=settings.number("num_attention_heads", 2, most=256),
            bias=settings.truth("use_bias", True),
            window=settings.number("window_size", 4, most=1000),
            latents=latents,
            couplings=settings.number("prior_encoder_num_flows", 4, most=64),
            coupling_layers=settings.number("prior_encoder_num_wavenet_layers", 4, most=64),
            coupling_kernel=settings.number("wavenet_kernel_size", 5, most=99),
            coupling_growth=settings.number("wavenet_dilation_rate", 1, most=8),
            drawn=settings.truth("use_stochastic_duration_prediction", True),
            flows=settings.number("duration_predictor_num_flows", 4, most=64),
            pieces=settings.number("duration_predictor_flow_bins", 10, most=256),
            duration_kernel=settings.number("duration_predictor_kernel_size", 3, most=99),
            duration_layers=settings.number("depth_separable_num_layers", 3, most=8),
            duration_hidden=settings.number("duration_predictor_filter_channels", 256),
            speakers=speakers,
            speaker=settings.number("speaker_embedding_size", 256) if speakers > 1 else 0,
            upsampler=UpsamplerSpec(**upsampler_sizes(settings, latents), last_bias=False),
            speed=settings.amount("speaking_rate", 1.0),
            noise=settings.amount("noise_scale", 0.667),
            duration_noise=settings.amount("noise_scale_duration", 0.8),
            characters=_characters(raw, vocabulary),
        )
        _check(settings, config)
        settings.finish()
        return config


def _characters(raw: Mapping[str, object], vocabulary: int) -> Characters | None:
    """What the files beside config.json say of the text, if they are there."""
    ids, settings = (raw.get(name) for name in _TOKENIZER)
    if not isinstance(ids, Mapping):
        return None
    return Characters.from_files(ids, settings if isinstance(settings, Mapping) else {}, vocabulary)


def _check(settings: Settings, config: VitsConfig) -> None:
    """Refuse what does not go together, and what no published model has."""
    settings.only("hidden_act", "relu")
    settings.only("layer_norm_eps", 1e-5)
    settings.only("depth_separable_channels", 2)
    settings.only("duration_predictor_tail_bound", 5.0)
    if config.speakers == 1:
        settings.only("speaker_embedding_size", 0)
    divides = config.dimension % config.heads == 0
    settings.require("num_attention_heads", divides, "a divisor of hidden_size")
    settings.require("flow_size", config.latents % 2 == 0, "even")
    for key, kernel in (
        ("ffn_kernel_size", config.kernel),
        ("wavenet_kernel_size", config.coupling_kernel),
        ("duration_predictor_kernel_size", config.duration_kernel),
    ):
        settings.require(key, kernel % 2 == 1, "odd")


@dataclass(frozen=True)
class Prior:
    """What a text says: hidden [1, D, S], means and logarithms of deviations [1, S, L]."""

    hidden: Tensor
    means: Tensor
    logs: Tensor


class Vits(nn.Module):
    """characters [1, S] -> wave [1, 1, F * hop], in four steps; one text at a time."""

    def __init__(self, config: VitsConfig) -> None:
        super().__init__()
        self.rate, self.hop = config.rate, prod(config.upsampler.ratios)
        self.vocabulary, self.speakers = config.vocabulary, config.speakers
        self.latents = config.latents
        self.speed, self.noise = config.speed, config.noise
        self.drawn, self.duration_noise = config.drawn, config.duration_noise
        self.encoder = TextEncoder(config)
        self.durations = _durations(config)
        self.couplings = nn.ModuleList(Coupling(config) for _ in range(config.couplings))
        self.decoder = WaveUpsampler(config.upsampler)
        self.voices: nn.Embedding | None = None
        self.voice_enter: Pointwise | None = None
        if config.speaker:
            table = torch.zeros(config.speakers, config.speaker)
            self.voices = nn.Embedding(config.speakers, config.speaker, _weight=table)
            self.voice_enter = Pointwise(config.speaker, config.upsampler.width)

    def read(self, characters: Tensor) -> Prior:
        """characters [1, S] -> what they say."""
        return self.encoder(characters)

    def voice(self, speaker: int) -> Tensor | None:
        """The vector of a speaker [1, E, 1], None where there is just one."""
        return None if self.voices is None else self.voices.weight[speaker][None, :, None]

    def lengths(self, prior: Prior, noise: Tensor, voice: Tensor | None) -> Tensor:
        """prior of S characters, noise [1, 2, S] -> how many frames each lasts [S], not whole."""
        return self.durations(prior.hidden, noise, voice)[0].exp()

    def latent(
        self, prior: Prior, frames: Sequence[int], noise: Tensor, voice: Tensor | None
    ) -> Tensor:
        """prior of S characters, whole frames of each, noise [1, L, F] -> latents [1, L, F]."""
        counts = torch.tensor(frames, device=noise.device)
        means, logs = (
            values.repeat_interleave(counts, 1).mT for values in (prior.means, prior.logs)
        )
        x = means + noise * torch.exp(logs)
        for coupling in reversed(self.couplings):
            x = coupling(x.flip(1), voice)
        return x

    def decode(self, latents: Tensor, state: State | None, voice: Tensor | None) -> Tensor:
        """latents [1, L, F] -> wave [1, 1, F * hop]; with `state`, the next F frames of one."""
        kind = self.decoder.first.weight.dtype
        condition = None
        if voice is not None and self.voice_enter is not None:
            condition = self.voice_enter(voice).to(kind)
        return self.decoder(latents.to(kind), state, condition)


class TextEncoder(nn.Module):
    """characters [1, S] -> Prior."""

    def __init__(self, config: VitsConfig) -> None:
        super().__init__()
        wide = config.dimension
        table = torch.zeros(config.vocabulary, wide)
        self.embedding = nn.Embedding(config.vocabulary, wide, _weight=table)
        self.transformer = Transformer(_block(config) for _ in range(config.layers))
        self.project = Pointwise(wide, 2 * config.latents)

    def forward(self, characters: Tensor) -> Prior:
        """characters [1, S] -> hidden [1, D, S], means and logarithms [1, S, L]."""
        x = self.embedding(characters) * self.embedding.embedding_dim**0.5
        hidden = self.transformer(x).mT
        means, logs = self.project(hidden).mT.chunk(2, -1)
        return Prior(hidden, means, logs)


class ConvMLP(nn.Module):
    """Two convolutions and a rectifier: each vector sees its neighbours."""

    def __init__(self, dimension: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.up = Conv(dimension, hidden, kernel, causal=False)
        self.down = Conv(hidden, dimension, kernel, causal=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, S, D] -> [B, S, D]."""
        return self.down(F.relu(self.up(x.mT))).mT


class Coupling(nn.Module):
    """x [1, L, F] -> [1, L, F]: half of the latents move the other half."""

    def __init__(self, config: VitsConfig) -> None:
        super().__init__()
        half, wide = config.latents // 2, config.dimension
        self.enter, self.leave = Pointwise(half, wide), Pointwise(wide, half)
        self.mix = WaveNet(
            wide,
            config.coupling_layers,
            config.coupling_kernel,
            growth=config.coupling_growth,
            condition=config.speaker,
        )

    def forward(self, x: Tensor, voice: Tensor | None) -> Tensor:
        """x [1, L, F], voice [1, E, 1] -> [1, L, F], backwards: training goes the other way."""
        still, moved = x.chunk(2, 1)
        return torch.cat((still, moved - self.leave(self.mix(self.enter(still), voice))), 1)


def whole_frames(lengths: Tensor, scale: float) -> list[int]:
    """lengths [S] -> whole frames of each, rounded up as the model was trained to have them."""
    return [int(count) for count in torch.ceil(lengths * scale).tolist()]


def shared_frames(lengths: Sequence[float], total: int) -> list[int]:
    """Whole frames that sum up to `total`, at least one of each.

    As `whole_frames` gives them for the scale that comes to the total (the divisor method that
    always rounds up): one by one, a frame goes to whom a larger scale would give the next one.
    """
    assert total >= len(lengths), "one frame for each"
    frames = [1] * len(lengths)
    waiting = [(1 / length, place) for place, length in enumerate(lengths)]
    heapq.heapify(waiting)
    for _ in range(total - len(lengths)):
        place = waiting[0][1]
        frames[place] += 1
        heapq.heapreplace(waiting, (frames[place] / lengths[place], place))
    return frames


def _block(config: VitsConfig) -> PostNormBlock:
    wide = config.dimension
    attention: Attention = NearAttention(wide, config.heads, config.window, bias=config.bias)
    mlp = ConvMLP(wide, config.hidden, config.kernel)
    return PostNormBlock(attention, mlp, partial(nn.LayerNorm, wide))


def _durations(config: VitsConfig) -> FlowDurations | PlainDurations:
    wide, kernel, condition = config.dimension, config.duration_kernel, config.speaker
    if not config.drawn:
        return PlainDurations(wide, config.duration_hidden, kernel, condition=condition)
    return FlowDurations(
        wide, config.flows, config.pieces, kernel, config.duration_layers, condition=condition
    )


def _row(vectors: Tensor) -> Tensor:
    """[1, P, D] -> [P, D]."""
    return vectors[0]


_OF = "{of:weight,bias}"
_LAYER, _BLOCK = "text_encoder.encoder.layers.{i}", "encoder.transformer.blocks.{i}"
_IN_LAYER = (
    ("attention.{part:q,k,v,out}_proj", "attention.{part}"),
    ("layer_norm", "attention_norm"),
    ("final_layer_norm", "mlp_norm"),
    ("feed_forward.conv_1", "mlp.up"),
    ("feed_forward.conv_2", "mlp.down"),
)
_MIX = (
    ("convs_dilated", "across"),
    ("convs_pointwise", "between"),
    ("norms_1", "across_norms"),
    ("norms_2", "between_norms"),
)
_DURATIONS = (
    ("conv_pre", "enter"),
    ("conv_proj", "leave"),
    ("cond", "condition"),
    ("conv_1", "first"),
    ("conv_2", "second"),
    ("norm_1", "first_norm"),
    ("norm_2", "second_norm"),
    ("proj", "leave"),
)
_FLOW = "duration_predictor.flows.{i}"

KEYS = KeyMap(
    rename("text_encoder.embed_tokens.weight", "encoder.embedding.weight"),
    rename(f"text_encoder.project.{_OF}", "encoder.project.{of}"),
    *(rename(f"{_LAYER}.{hub}.{_OF}", f"{_BLOCK}.{ours}.{{of}}") for hub, ours in _IN_LAYER),
    merge([f"{_LAYER}.attention.emb_rel_k"], f"{_BLOCK}.attention.near_keys", _row),
    merge([f"{_LAYER}.attention.emb_rel_v"], f"{_BLOCK}.attention.near_values", _row),
    *(
        rename(f"duration_predictor.{hub}.{_OF}", f"durations.{ours}.{{of}}")
        for hub, ours in _DURATIONS
    ),
    *(
        rename(
            f"duration_predictor.conv_dds.{hub}.{{j}}.{_OF}", f"durations.mix.{ours}.{{j}}.{{of}}"
        )
        for hub, ours in _MIX
    ),
    rename("duration_predictor.flows.0.translate", "durations.shift"),
    rename("duration_predictor.flows.0.log_scale", "durations.log_scale"),
    # Of the flows that speech needs, none is the first (see FlowDurations).
    offer(f"{_FLOW}.conv_pre.{_OF}", "durations.flows.{i}.enter.{of}"),
    offer(f"{_FLOW}.conv_proj.{_OF}", "durations.flows.{i}.leave.{of}"),
    *(
        offer(
            f"{_FLOW}.conv_dds.{hub}.{{j}}.{_OF}", f"durations.flows.{{i}}.mix.{ours}.{{j}}.{{of}}"
        )
        for hub, ours in _MIX
    ),
    drop("duration_predictor.post_*"),
    drop("posterior_encoder.*"),
    rename(f"flow.flows.{{i}}.conv_pre.{_OF}", "couplings.{i}.enter.{of}"),
    rename(f"flow.flows.{{i}}.conv_post.{_OF}", "couplings.{i}.leave.{of}"),
    *(
        verb
        for hub, ours in (
            ("cond_layer", "condition"),
            ("in_layers.{j}", "gates.{j}"),
            ("res_skip_layers.{j}", "outs.{j}"),
        )
        for verb in (
            fold_weight_norm(
                f"flow.flows.{{i}}.wavenet.{hub}", f"couplings.{{i}}.mix.{ours}.weight"
            ),
            rename(f"flow.flows.{{i}}.wavenet.{hub}.bias", f"couplings.{{i}}.mix.{ours}.bias"),
        )
    ),
    *upsampler_keys("decoder.", "decoder."),
    rename(f"decoder.cond.{_OF}", "voice_enter.{of}"),
    rename("embed_speaker.weight", "voices.weight"),
)

FAMILY = Family(VitsConfig.from_hub, Vits, KEYS, beside=_TOKENIZER)
