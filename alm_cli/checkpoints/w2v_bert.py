"""How published checkpoints describe a w2v-BERT 2.0, be it alone or within a codec."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from alm_cli.checkpoints.family import Settings, SettingsError
from alm_cli.checkpoints.keymap import Verb, drop, merge, rename

# What concerns training, or heads that are not in these checkpoints.
_UNUSED = frozenset({
    "activation_dropout", "adapter_act", "adapter_kernel_size", "adapter_stride",
    "apply_spec_augment", "attention_dropout", "bos_token_id", "classifier_proj_size",
    "codevector_dim", "conformer_conv_dropout", "contrastive_logits_temperature",
    "ctc_loss_reduction", "ctc_zero_infinity", "diversity_loss_weight", "eos_token_id",
    "feat_proj_dropout", "feat_quantizer_dropout", "final_dropout", "hidden_dropout",
    "initializer_range", "layerdrop", "mask_feature_length", "mask_feature_min_masks",
    "mask_feature_prob", "mask_time_length", "mask_time_min_masks", "mask_time_prob",
    "max_source_positions", "num_adapter_layers", "num_codevector_groups",
    "num_codevectors_per_group", "num_negatives", "output_hidden_states", "pad_token_id",
    "proj_codevector_dim", "rotary_embedding_base", "tdnn_dilation", "tdnn_dim", "tdnn_kernel",
    "tie_word_embeddings", "use_weighted_layer_sum", "vocab_size", "xvector_output_dim",
})  # fmt: skip


def conformer_sizes(raw: Mapping[str, object], within: str | None = None) -> dict[str, int]:
    """The fields of a ConformerSpec, from a config.json or from its part `within`."""
    settings = Settings({key: value for key, value in raw.items() if key not in _UNUSED})
    dimension = settings.number("hidden_size", 1024)
    sizes = {
        "features": settings.number("feature_projection_input_dim", 160),
        "dimension": dimension,
        "hidden": settings.number("intermediate_size", 4096),
        "heads": settings.number("num_attention_heads", 16),
        "depth": settings.number("num_hidden_layers", 24, most=256),
        "kernel": settings.number("conv_depthwise_kernel_size", 31),
        "left": settings.number("left_max_position_embeddings", 64),
        "right": settings.number("right_max_position_embeddings", 8),
    }
    settings.only("output_hidden_size", dimension, None)
    settings.only("hidden_act", "swish", "silu")
    settings.only("layer_norm_eps", 1e-5)
    settings.only("position_embeddings_type", "relative_key")
    settings.only("add_adapter", False)
    settings.only("use_intermediate_ffn_before_adapter", False)
    try:
        settings.finish()
    except SettingsError as error:
        if within is None:
            raise
        message = error.message.replace("config.json", f"config.json, {within}", 1)
        raise SettingsError(message, error.hint or "", frozenset({within})) from error
    return sizes


_ROLES = (
    ("ffn1_layer_norm", "first_norm"),
    ("ffn1.intermediate_dense", "first.up"),
    ("ffn1.output_dense", "first.down"),
    ("self_attn_layer_norm", "attention_norm"),
    ("self_attn.linear_q", "attention.q"),
    ("self_attn.linear_k", "attention.k"),
    ("self_attn.linear_v", "attention.v"),
    ("self_attn.linear_out", "attention.out"),
    ("conv_module.layer_norm", "convolution.norm"),
    ("conv_module.depthwise_layer_norm", "convolution.mix_norm"),
    ("ffn2_layer_norm", "second_norm"),
    ("ffn2.intermediate_dense", "second.up"),
    ("ffn2.output_dense", "second.down"),
    ("final_layer_norm", "norm"),
)


def conformer_keys(theirs: str, ours: str, layers: str = "{i}") -> tuple[Verb, ...]:
    """Verbs from the tensors under `theirs` to a Conformer under `ours` (prefixes with dots).

    `layers` is the placeholder `i` of those that are used.
    """
    layer = f"{theirs}encoder.layers.{layers}"
    block = f"{ours}blocks.{{i}}"
    leaf = "{leaf:weight,bias}"
    return (
        drop(f"{theirs}masked_spec_embed"),  # for training
        rename(f"{theirs}feature_projection.layer_norm.{leaf}", f"{ours}norm.{{leaf}}"),
        rename(f"{theirs}feature_projection.projection.{leaf}", f"{ours}project.{{leaf}}"),
        *(rename(f"{layer}.{their}.{leaf}", f"{block}.{our}.{{leaf}}") for their, our in _ROLES),
        rename(f"{layer}.self_attn.distance_embedding.weight", f"{block}.attention.distances"),
        rename(f"{layer}.conv_module.depthwise_conv.weight", f"{block}.convolution.mix.weight"),
        *(
            # Pointwise convolutions are linear layers.
            merge(
                (f"{layer}.conv_module.pointwise_conv{number}.weight",),
                f"{block}.convolution.{our}.weight",
                _pointwise,
            )
            for number, our in ((1, "up"), (2, "down"))
        ),
    )


def _pointwise(weight: Tensor) -> Tensor:
    """weight [D, C, 1] -> [D, C]."""
    return weight.squeeze(-1)
