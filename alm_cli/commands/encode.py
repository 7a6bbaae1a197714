"""`alm encode`: recordings in, token files out."""

from __future__ import annotations

from alm_cli.commands import encode_options as own
from alm_cli.commands import options
from alm_cli.commands.batch import Batch
from alm_cli.commands.dataset import Sharding, encode_dataset
from alm_cli.commands.encoding import Settings, split_channels
from alm_cli.errors import UsageError
from alm_cli.jobs.sources import STDIN


def encode(
    inputs: options.Inputs = None,
    output: options.Output = None,
    model: options.Model = options.DEFAULT_MODEL,
    codebooks: options.Codebooks = None,
    bitrate: own.Bitrate = None,
    channels: own.Channels = None,
    layer: own.Layer = None,
    kmeans: own.Kmeans = None,
    normalize: own.Normalize = None,
    windowed: own.Windowed = None,
    loudness: own.Loudness = None,
    pack: own.Pack = "bits",
    stream: own.Stream = False,
    segment_frames: own.SegmentFrames = None,
    raw: own.Raw = None,
    rate: own.RawRate = None,
    from_list: options.FromList = None,
    recursive: options.Recursive = False,
    skip_existing: options.SkipExisting = False,
    overwrite: options.Overwrite = False,
    shards: own.Shards = None,
    shard_size: own.ShardSize = None,
    manifest: own.Manifest = None,
    num_shards: own.NumShards = None,
    shard_index: own.ShardIndex = None,
    retry_failed: own.RetryFailed = False,
    engine: own.Engine = "local",
    batch_size: options.BatchSize = options.AUTO,
    device: options.Device = options.AUTO,
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Turn recordings into token files, or with --shards into a data set of them."""
    sharding = Sharding(
        shards=shards,
        shard_size=shard_size,
        manifest=manifest,
        num_shards=num_shards,
        shard_index=shard_index,
        retry_failed=retry_failed,
        engine=engine,
    )
    batch = Batch(
        "encode",
        inputs or (),
        output,
        from_list=from_list if manifest is None else manifest,
        recursive=recursive,
        skip_existing=skip_existing,
        overwrite=overwrite,
        together=batch_size,
        json=json,
        quiet=quiet,
        verbose=verbose,
    )
    mode, raw_channels = split_channels(channels or (), raw)
    settings = Settings(
        model=model,
        codebooks=codebooks,
        bitrate=bitrate,
        mode=mode,
        raw=raw,
        rate=rate,
        raw_channels=raw_channels,
        stream=stream,
        segment_frames=segment_frames,
        layer=layer,
        kmeans=kmeans,
        normalize=normalize,
        windowed=windowed,
        loudness=loudness,
        pack=pack,
        skip_existing=skip_existing,
        device=device,
        dtype=dtype,
        threads=threads,
        batch=None if batch_size == options.AUTO else batch.lanes,
    )
    if loudness is not None and STDIN in batch.inputs:
        raise UsageError("--loudness hears a recording twice", hint="give a file")
    options.check_model(model)
    if sharding.wanted:
        encode_dataset(settings, sharding, batch)

    from alm_cli.files.tokens import TOKEN_SUFFIX

    batch.run(batch.tasks(settings.suffixes, TOKEN_SUFFIX), lambda: settings.load().steps())
