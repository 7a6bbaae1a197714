"""Decoding: functions on logits that know nothing of the models that made them."""
