"""HuBERT, WavLM and wav2vec 2.0: features of speech, 50 a second, and letters where it was learnt.

arXiv:2106.07447, arXiv:2110.13900, arXiv:2006.11477.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from alm_cli.checkpoints.alphabet import ALPHABET_FILES, Alphabet, read_alphabet
from alm_cli.checkpoints.family import Family, Settings, SettingsError
from alm_cli.checkpoints.keymap import KeyMap, Shape, drop, merge, offer, rename
from alm_cli.checkpoints.wav2vec2 import front_keys, front_sizes
from alm_cli.errors import UsageError
from alm_cli.nn.attention import Attention
from alm_cli.nn.conv_position import ConvPosition, weight_spectrum
from alm_cli.nn.frontend import FrontEnd, FrontSpec
from alm_cli.nn.gated import GatedAttention, RelativeBias
from alm_cli.nn.state import State
from alm_cli.nn.transformer import MLP, Block, PostNormBlock, Transformer
from alm_cli.nn.whole import answered, heard, standardised

# The samples of a block. It makes 4999 frames, so that every border between blocks lacks one.
_LONGEST = 1_600_000

# Settings of training, of heads for tasks, and of the quantiser that only pretraining uses.
_TRAINING = frozenset({
    "activation_dropout", "adapter_kernel_size", "adapter_stride", "apply_spec_augment",
    "attention_dropout", "bos_token_id", "classifier_proj_size", "codevector_dim",
    "contrastive_logits_temperature", "ctc_loss_reduction", "ctc_zero_infinity",
    "diversity_loss_weight", "eos_token_id", "feat_extract_dropout", "feat_proj_dropout",
    "feat_quantizer_dropout", "final_dropout", "finetuning_task", "freeze_feat_extract_train",
    "gradient_checkpointing", "hidden_dropout", "hidden_dropout_prob", "id2label",
    "initializer_range", "label2id", "layerdrop", "mask_channel_length", "mask_channel_min_space",
    "mask_channel_other", "mask_channel_prob", "mask_channel_selection", "mask_feature_length",
    "mask_feature_min_masks", "mask_feature_prob", "mask_time_length", "mask_time_min_masks",
    "mask_time_min_space", "mask_time_other", "mask_time_prob", "mask_time_selection",
    "no_mask_channel_overlap", "no_mask_time_overlap", "num_adapter_layers",
    "num_codevector_groups", "num_codevectors_per_group", "num_ctc_classes", "num_negatives",
    "output_hidden_size", "pad_token_id", "problem_type", "proj_codevector_dim", "replace_prob",
    "tdnn_dilation", "tdnn_dim", "tdnn_kernel", "tokenizer_class", "use_weighted_layer_sum",
    "vocab_size", "xvector_output_dim",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class HubertConfig:
    """The architecture, in the words of the kit; `buckets` is 0 without relative positions.

    Models that learnt to write have an `alphabet`.
    """

    front: FrontSpec
    front_norm: bool
    dimension: int
    hidden: int
    layers: int
    heads: int
    norm_first: bool
    position_kernel: int
    position_groups: int
    position_norm: bool
    buckets: int
    furthest: int
    alphabet: Alphabet | None = None

    @classmethod
    def from_hub(cls, raw: Mapping[str, object]) -> HubertConfig:
        """Read the published `config.json`; what this file does not build is an error."""
        settings = Settings({key: raw[key] for key in raw.keys() - _TRAINING - {*ALPHABET_FILES}})
        relative = raw.get("model_type") == "wavlm"
        buckets = settings.number("num_buckets", 320)
        config = cls(
            front=FrontSpec(**front_sizes(settings, raw)),
            front_norm=settings.truth("feat_proj_layer_norm", True),
            dimension=settings.number("hidden_size", 768),
            hidden=settings.number("intermediate_size", 3072),
            layers=settings.number("num_hidden_layers", 12, most=256),
            heads=settings.number("num_attention_heads", 12),
            norm_first=settings.truth("do_stable_layer_norm", False),
            position_kernel=settings.number("num_conv_pos_embeddings", 128),
            position_groups=settings.number("num_conv_pos_embedding_groups", 16),
            position_norm=settings.truth("conv_pos_batch_norm", False),
            buckets=buckets if relative else 0,
            furthest=settings.number("max_bucket_distance", 800),
            alphabet=read_alphabet(raw),
        )
        settings.only("hidden_act", "gelu")
        settings.only("add_adapter", False)
        settings.only("adapter_attn_dim", None)
        settings.finish()
        _check(config)
        return config


def _check(config: HubertConfig) -> None:
    """Refuse what does not divide."""
    for key, parts in (
        ("num_attention_heads", config.heads),
        ("num_conv_pos_embedding_groups", config.position_groups),
    ):
        if config.dimension % parts:
            raise SettingsError(
                f"config.json: {key}, {parts}, does not divide hidden_size, {config.dimension}",
                hint="take the config.json that came with the weights",
                keys=frozenset({key}),
            )


class Hubert(nn.Module):
    """wave [B, 1, T] -> features [B, D, F], F = (T - 400) // 320 + 1, of the last layer.

    Every frame depends on the whole signal, so a stream is answered at its end. Recordings beyond
    100 s are made of blocks of 100 s that know nothing of one another, as the unit tokenisers do
    with which published k-means models were made (textlesslib). What is normalised, before that,
    is the whole recording.
    """

    rate, channels, delay = 16_000, 1, 0
    vocabularies: tuple[int, ...] = ()
    block_frames = 100

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        front, dimension = config.front, config.dimension
        self.hop, self.dimension, self.layers = front.hop, dimension, config.layers
        # Models whose front end normalises every vector heard signals of unit variance.
        self.normalize = not front.over_time
        self.front = FrontEnd(front)
        wide = front.widths[-1]
        self.front_norm = nn.LayerNorm(wide) if config.front_norm else nn.Identity()
        self.projection = nn.Linear(wide, dimension)
        normed = nn.BatchNorm1d(dimension) if config.position_norm else None
        self.position = ConvPosition(
            dimension, config.position_kernel, config.position_groups, normed
        )
        self.relative = None
        if config.buckets:
            self.relative = RelativeBias(config.heads, config.buckets, config.furthest)
        self.context = Transformer(_block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(dimension)
        self.norm_first = config.norm_first
        self.layer: int | None = None

    def encode(
        self,
        wave: Tensor,
        codebooks: int | None = None,  # noqa: ARG002 - there are none
        state: State | None = None,
    ) -> Tensor:
        """wave [B, 1, T] -> features [B, D, F] float32."""
        wave = heard(self, wave, state, None if self.normalize else _LONGEST)
        wave = standardised(wave) if self.normalize else wave
        return answered(self.features, wave, _LONGEST)

    def at_layer(self, layer: int | None, *, normalize: bool | None = None) -> Hubert:
        """The same weights as a model that ends after its first `layer` blocks; None is its output.

        0 is what enters the first block. Where the norm comes first, the last layer and the output
        differ: only the latter is normalised. `normalize` says whether recordings are brought to
        zero mean and unit variance first, None leaves it to the architecture. UsageError: there is
        no such layer.
        """
        if layer is not None and not 0 <= layer <= self.layers:
            raise UsageError(f"the model has layers 0 to {self.layers}, not {layer}")
        other = copy(self)
        other.layer = layer
        other.normalize = self.normalize if normalize is None else normalize
        return other

    def features(self, wave: Tensor) -> Tensor:
        """wave [B, 1, T], whole -> features [B, D, F] float32."""
        x = self.front(wave[:, 0].to(self.projection.weight.dtype))
        if not x.shape[1]:
            return wave.new_zeros(len(wave), self.dimension, 0)
        x = self.projection(self.front_norm(x))
        x = x + self.position(x)
        x = x if self.norm_first else self.norm(x)
        bias = None if self.relative is None else self.relative(x.shape[1])
        x = self.context(x, bias=bias, depth=self.layer)
        x = self.norm(x) if self.norm_first and self.layer is None else x
        return x.mT.float()


class HubertCtc(Hubert):
    """wave [B, 1, T] -> log-probabilities [B, F, V] of letters, by a head for CTC.

    Of a symbol `vocabulary` has what it writes, nothing for the `blank` and other special ones; a
    space ends a word. Recordings are brought to unit variance where the published preprocessing
    does, whatever the architecture. As features it is the Hubert below the head.
    """

    def __init__(self, config: HubertConfig) -> None:
        super().__init__(config)
        assert config.alphabet is not None
        self.vocabulary, self.blank = config.alphabet.symbols, config.alphabet.blank
        self.standardise = config.alphabet.standardise
        self.head = nn.Linear(config.dimension, len(self.vocabulary))

    def forward(self, wave: Tensor) -> Tensor:
        """wave [B, 1, T], whole -> log-probabilities [B, F, V] float32."""
        wave = standardised(wave) if self.standardise else wave
        logits = answered(self._letters, wave, max(1, wave.shape[-1])).mT
        return torch.log_softmax(logits, -1)

    def frames(self, samples: int) -> int:
        """The frames of so many samples."""
        return self.front.spec.frames(samples)

    def _letters(self, wave: Tensor) -> Tensor:
        """wave [B, 1, T] -> logits [B, V, F] float32."""
        features = self.features(wave).mT
        return self.head(features.to(self.head.weight.dtype)).mT.float()


def _build(config: HubertConfig) -> Hubert:
    return Hubert(config) if config.alphabet is None else HubertCtc(config)


def _block(config: HubertConfig) -> nn.Module:
    """A block of the transformer."""
    sizes = config.dimension, config.heads
    attention = GatedAttention(*sizes) if config.buckets else Attention(*sizes, bias=True)
    mlp = MLP(config.dimension, config.hidden, bias=True)
    kind = Block if config.norm_first else PostNormBlock
    return kind(attention, mlp, partial(nn.LayerNorm, config.dimension))


def spectrum_over_time(magnitude: Tensor, direction: Tensor) -> Tensor:
    """magnitude [1, 1, k], direction [D, C, k] -> the spectrum of a weight with a norm per tap."""
    direction = direction.float()
    norm = torch.linalg.vector_norm(direction, dim=(0, 1), keepdim=True)
    return weight_spectrum(direction * (magnitude.float() / norm))


# The hub's names, with the prefix that models with a head for a task put before them; and those of
# fairseq and of WavLM's first release (`.pt`).
_MODEL = "{model:hubert.,wavlm.,wav2vec2.,}"
_LAYER = f"{_MODEL}encoder.layers.{{i}}"
_BLOCK = "context.blocks.{i}"
_POSITION = f"{_MODEL}encoder.{{where:pos_conv_embed.conv,pos_conv.0}}"
_ORIGINAL = f"{_POSITION}.parametrizations.weight.original"
_ATTENTION = f"{_LAYER}.{{at:attention,self_attn}}"
_OF = "{of:weight,bias}"
_PARTS = (
    (f"{_ATTENTION}.{{part:q,k,v,out}}_proj", "attention.{part}"),
    (f"{_ATTENTION}.{{gate:gru_rel_pos_linear,grep_linear}}", "attention.gate"),
    (f"{_LAYER}.{{norm:layer_norm,self_attn_layer_norm}}", "attention_norm"),
    (f"{_LAYER}.{{up:feed_forward.intermediate_dense,fc1}}", "mlp.up"),
    (f"{_LAYER}.{{down:feed_forward.output_dense,fc2}}", "mlp.down"),
    (f"{_LAYER}.final_layer_norm", "mlp_norm"),
)

KEYS = KeyMap(
    *front_keys(_MODEL),
    rename(f"{_MODEL}feature_projection.layer_norm.{_OF}", "front_norm.{of}"),
    rename(f"layer_norm.{_OF}", "front_norm.{of}"),
    rename(f"{_MODEL}feature_projection.projection.{_OF}", "projection.{of}"),
    rename(f"post_extract_proj.{_OF}", "projection.{of}"),
    merge([f"{_POSITION}.weight_{end}" for end in "gv"], "position.spectrum", spectrum_over_time),
    merge([f"{_ORIGINAL}{end}" for end in "01"], "position.spectrum", spectrum_over_time),
    merge([f"{_POSITION}.weight"], "position.spectrum", weight_spectrum),
    rename(f"{_POSITION}.bias", "position.bias"),
    rename(f"{_MODEL}encoder.pos_conv_embed.batch_norm.{{name:*}}", "position.norm.{name}"),
    rename(f"{_MODEL}encoder.layer_norm.{_OF}", "norm.{of}"),
    *(rename(f"{theirs}.{_OF}", f"{_BLOCK}.{ours}.{{of}}") for theirs, ours in _PARTS),
    rename(f"{_ATTENTION}.{{scale:gru_rel_pos_const,grep_a}}", f"{_BLOCK}.attention.gate_scale"),
    # Shared by all layers, and kept in the first.
    rename(
        f"{_MODEL}encoder.layers.0.{{bias:attention.rel_attn_embed,"
        "self_attn.relative_attention_bias}.weight",
        "relative.weight",
    ),
    offer(f"lm_head.{_OF}", "head.{of}"),
    # What only training reads, and the heads of other tasks.
    drop(f"{_MODEL}masked_spec_embed"),
    drop("{name:mask_emb,label_embs_concat,layer_weights}"),
    drop("{head:project_hid,project_q,final_proj,quantizer,projector,classifier}.{name:*}"),
    drop("{head:feature_extractor,objective}.{of:weight,bias}"),
    drop("tdnn.{i}.{name:*}"),
)

_TELLING = {
    "post_extract_proj.weight": 2,
    "encoder.pos_conv.0.weight_v": 3,
    "encoder.layers.0.fc1.weight": 2,
    "feature_extractor.conv_layers.0.0.weight": 3,
}


def sniff(shapes: Mapping[str, Shape], said: Mapping[str, object]) -> Mapping[str, object] | None:
    """The settings of a checkpoint with fairseq's names, as WavLM's first release has them.

    The shapes tell all but the heads, which have 64 features in every published model, and
    whether the norm comes first, which the settings beside the tensors say; else it is taken to
    go with a front end that normalises every vector.
    """
    if any(len(shapes.get(name, ())) != rank for name, rank in _TELLING.items()):
        return None
    first = "feature_extractor.conv_layers"
    convs = [shapes[name] for i in range(16) if (name := f"{first}.{i}.0.weight") in shapes]
    every = f"{first}.1.2.1.weight" in shapes
    wide = shapes["post_extract_proj.weight"][0]
    _, group, taps = shapes["encoder.pos_conv.0.weight_v"]
    cfg = said.get("cfg")
    told = cfg if isinstance(cfg, Mapping) else {}
    settings: dict[str, object] = {
        "model_type": "hubert",
        "conv_dim": [shape[0] for shape in convs],
        "conv_kernel": [shape[-1] for shape in convs],
        "conv_stride": [5, *[2] * (len(convs) - 1)],
        "conv_bias": f"{first}.0.0.bias" in shapes,
        "feat_extract_norm": "layer" if every else "group",
        "hidden_size": wide,
        "intermediate_size": shapes["encoder.layers.0.fc1.weight"][0],
        "num_hidden_layers": len({n.split(".")[2] for n in shapes if "encoder.layers." in n}),
        "num_attention_heads": wide // 64,
        "num_conv_pos_embeddings": taps,
        "num_conv_pos_embedding_groups": wide // group if group else 0,
        "do_stable_layer_norm": told.get("layer_norm_first", every),
    }
    relative = shapes.get("encoder.layers.0.self_attn.relative_attention_bias.weight")
    if relative:
        settings |= {
            "model_type": "wavlm",
            "num_buckets": relative[0],
            "num_attention_heads": relative[-1],
            "max_bucket_distance": told.get("max_distance", 800),
        }
    return settings


FAMILY = Family(HubertConfig.from_hub, _build, KEYS, sniff, ALPHABET_FILES)
