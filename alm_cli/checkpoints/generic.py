"""What every configuration of `transformers` used to say, and no model here asks for."""

from __future__ import annotations

from alm_cli.checkpoints.family import Settings, SettingsError

# Of training, of generation (this program has its own) and of other tasks.
GENERIC = frozenset({
    "_attn_implementation_autoset", "_commit_hash", "add_cross_attention", "bad_words_ids",
    "begin_suppress_tokens", "bos_token_id", "chunk_size_feed_forward",
    "cross_attention_hidden_size", "decoder_start_token_id", "diversity_penalty", "do_sample",
    "dropout", "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id",
    "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id",
    "forced_eos_token_id", "id2label", "initializer_range", "is_decoder", "is_encoder_decoder",
    "label2id", "length_penalty", "max_length", "min_length", "no_repeat_ngram_size",
    "num_beam_groups", "num_beams", "num_return_sequences", "output_attentions",
    "output_hidden_states", "output_scores", "pad_token_id", "prefix", "problem_type",
    "pruned_heads", "remove_invalid_values", "repetition_penalty", "return_dict_in_generate",
    "sep_token_id", "suppress_tokens", "task_specific_params", "temperature",
    "tf_legacy_loss", "tie_encoder_decoder", "tokenizer_class", "top_k", "top_p",
    "torchscript", "typical_p", "use_bfloat16", "use_cache",
})  # fmt: skip


def finish_section(settings: Settings, section: str) -> None:
    """`settings.finish()` for a section of config.json. SettingsError: names the section."""
    try:
        settings.finish()
    except SettingsError as error:
        message = error.message.replace("config.json", f"config.json, {section}", 1)
        raise SettingsError(message, error.hint or "", frozenset({section})) from None
