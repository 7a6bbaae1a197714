"""Values in, values out: the only place where values become tensors on a device."""
