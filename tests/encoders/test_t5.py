"""T5's encoder alone, from files that hold its decoder too, against `transformers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from alm_cli.catalog import T5_ENCODERS, family_of
from alm_cli.checkpoints.load import load
from alm_cli.errors import ModelError
from alm_cli.nn.t5 import T5Encoder

TINY: dict[str, Any] = {"d_model": 12, "d_kv": 4, "d_ff": 20, "num_layers": 2, "num_heads": 3}
TINY |= {"vocab_size": 40, "num_decoder_layers": 1, "decoder_start_token_id": 0}

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("kind", ["T5ForConditionalGeneration", "T5EncoderModel"])
@pytest.mark.parametrize("forward", ["relu", "gated-gelu"])
@torch.no_grad()
def test_vectors_are_those_of_transformers(tmp_path: Path, kind: str, forward: str) -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.T5Config(**TINY, feed_forward_proj=forward)
    theirs = getattr(transformers, kind)(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = load(tmp_path).model
    assert isinstance(ours, T5Encoder) and ours.dimension == 12
    ids = torch.arange(20).view(2, 10) * 7 % 40
    mask = torch.ones_like(ids)
    encoder = theirs.get_encoder() if hasattr(theirs, "get_encoder") else theirs
    wanted = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(ours(ids, mask), wanted, atol=1e-5, rtol=1e-5)


def test_the_cards_are_of_the_family_that_a_folder_is() -> None:
    for name, card in T5_ENCODERS.items():
        assert card.name == name and card.family == family_of("t5")
        assert card.repository[0] == f"google-t5/{name}" and len(card.repository[1]) == 40


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    import transformers

    transformers.T5EncoderModel(transformers.T5Config(**TINY)).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"vocab_size": 40', '"vocab_size": 41'))
    with pytest.raises(ModelError, match="where the model has 41x12"):
        load(tmp_path)
