"""The models that alm knows by name: one card each, and the only place with their addresses."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from alm_cli.errors import ModelError

# A decoder reads the tokens of a codec and makes none; a recogniser writes down speech, a speaker
# says text. A part has no use by itself.
Task = Literal["codec", "decoder", "recogniser", "speaker", "composer", "part"]

_SAFETENSORS = ("config.json", "*.safetensors", "*.safetensors.index.json")
_ASSET = "asset:"


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is known of a model before it is loaded.

    `source` is `asset:<folder>` for weights in the package, else `<repository>@<revision>`, of
    which `files` are fetched, or empty for a formula, which has no files. Rates are in hertz,
    `parameters` counts the weights in use; `vocabularies` is empty for features, of which there
    are `dimension` a frame; `strides` are those of `Origin`. `model_types` are those of config.json
    files that the family reads, by default its own name. Not everything may be done with the
    weights of a `restricted` model: `licence` says what, and has to be accepted once. `needs` are
    the names of the models without which this one does not work.
    """

    name: str
    task: Task
    family: str
    source: str
    note: str
    licence: str
    parameters: int
    rate: int
    frame_rate: float
    vocabularies: tuple[int, ...]
    files: tuple[str, ...] = _SAFETENSORS
    dimension: int = 0
    strides: tuple[int, ...] = ()
    model_types: tuple[str, ...] = ()
    restricted: bool = False
    needs: tuple[str, ...] = ()

    @property
    def asset(self) -> str | None:
        """The folder within the package, None for what is fetched."""
        return self.source.removeprefix(_ASSET) if self.source.startswith(_ASSET) else None

    @property
    def repository(self) -> tuple[str, str]:
        """Repository and revision of what is fetched."""
        repository, _, revision = self.source.partition("@")
        return repository, revision


# What the package pocket-tts 4.0.1 takes its voices from, for all of its models.
_POCKET = "a7056f505a4a8ca72d8b5fb1440071d6f1a35739"

CATALOG = (
    ModelCard(
        name="alm-codec",
        task="codec",
        family="alm_cli.codecs.alm_codec",
        source="asset:alm-codec",
        note="speech and music, 24 kHz, ours, in the package",
        licence="Apache-2.0",
        parameters=11_681_318,
        rate=24_000,
        frame_rate=25.0,
        vocabularies=(1024,) * 32,
    ),
    ModelCard(
        name="alm-codec-music",
        task="codec",
        family="alm_cli.codecs.alm_codec",
        source="asset:alm-codec-music",
        note="music of thirteen instruments, 24 kHz, 2 kbps, ours, in the package",
        licence="Apache-2.0",
        parameters=4_130_563,
        rate=24_000,
        frame_rate=25.0,
        vocabularies=(1024,) * 8,
    ),
    ModelCard(
        name="alm-asr",
        task="recogniser",
        family="alm_cli.encoders.alm_asr",
        source="asset:alm-asr",
        note="English speech, letters and sounds by CTC, ours, in the package",
        licence="Apache-2.0",
        parameters=7_691_820,
        rate=16_000,
        frame_rate=50.0,
        vocabularies=(29,),
    ),
    ModelCard(
        name="alm-tts",
        task="speaker",
        family="alm_cli.lm.alm_tts",
        source="asset:alm-tts",
        note="English, six synthetic voices, ours, in the package",
        licence="Apache-2.0",
        parameters=9_201_602,
        rate=24_000,
        frame_rate=25.0,
        vocabularies=(1024,) * 8,
        model_types=("alm_tts",),
    ),
    ModelCard(
        name="alm-music",
        task="composer",
        family="alm_cli.lm.alm_music",
        source="asset:alm-music",
        note="music for thirteen instruments, ours, in the package",
        licence="Apache-2.0",
        parameters=4_474_432,
        rate=24_000,
        frame_rate=25.0,
        vocabularies=(1024,) * 4,
        model_types=("alm_music",),
    ),
    *(
        ModelCard(
            name=f"musicgen-{name}",
            task="composer",
            family="alm_cli.lm.musicgen",
            source=f"facebook/musicgen-{name}@{revision}",
            note=f"music by its description, 32 kHz, {note}",
            licence="MIT for the code, CC-BY-NC-4.0 for the weights",
            parameters=parameters,
            rate=32_000,
            frame_rate=50.0,
            vocabularies=(2048,) * 4,
            files=(*_SAFETENSORS, "tokenizer.json", "spiece.model"),
            model_types=("musicgen", "musicgen_melody"),
            restricted=True,
        )
        # The heads of the main branches, which others have pinned.
        for name, revision, parameters, note in (
            ("small", "4c8334b02c6ec4e8664a91979669a501ec497792", 587_925_313, "fast"),
            ("medium", "d3bd7b00761b78ad7a8a05145ee31e7832e9916c", 2_006_291_777, "better"),
            ("large", "15ccdc92099879e47b6da12c350cdb71d4eab3ca", 3_424_510_785, "best"),
            (
                "melody",
                "68d653a95788ec0d2b0abccab22c0b3a200c2d90",
                *(1_553_179_457, "follows a melody"),
            ),
            (
                "melody-large",
                "6fdf8d3d815995108c9bdb5183414ff464b171ac",
                *(2_619_034_433, "follows a melody, best"),
            ),
            ("stereo-small", "3a110c0092820d470372c880c5ea06ce21a78ddd", 604_706_625, "stereo"),
            (
                "stereo-medium",
                "2747e613fbaadc43b14257224326ef58c5c11b81",
                *(2_031_463_745, "stereo, better"),
            ),
            (
                "stereo-large",
                "bda8ec330c9c17e09728589eaf678f58f7d2d932",
                *(3_458_073_409, "stereo, best"),
            ),
            (
                "stereo-melody",
                "022c3bd20a7d77e7c014082f0391bcbcd3940a7a",
                *(1_578_351_425, "stereo, follows a melody"),
            ),
            (
                "stereo-melody-large",
                "eea14861e6c29c47aea1055982a217468cd1634d",
                *(2_652_597_057, "stereo, follows a melody, best"),
            ),
        )
    ),
    ModelCard(
        name="encodec-24khz",
        task="codec",
        family="alm_cli.codecs.encodec",
        # The head of the main branch since July 2023: what an unpinned download gets.
        source="facebook/encodec_24khz@c1dbe2ae3f1de713481a3b3e7c47f357092ee040",
        note="speech and music, 24 kHz, 1.5 to 24 kbps",
        licence="MIT for the code; the card of the weights names none",
        parameters=19_041_121,
        rate=24_000,
        frame_rate=75.0,
        vocabularies=(1024,) * 32,
    ),
    ModelCard(
        name="encodec-48khz",
        task="codec",
        family="alm_cli.codecs.encodec",
        # What others have pinned as well; its config.json and weights have not changed since 2023.
        source="facebook/encodec_48khz@c3def8e7185ac8c8efdce6eb8c4a651e487a503e",
        note="music, 48 kHz stereo, 3 to 24 kbps",
        licence="MIT for the code; the card of the weights names none",
        parameters=16_953_446,
        rate=48_000,
        frame_rate=150.0,
        vocabularies=(1024,) * 16,
    ),
    ModelCard(
        name="mimi",
        task="codec",
        family="alm_cli.codecs.mimi",
        # What others have in their caches: the weights have not changed since September 2024.
        source="kyutai/mimi@89091b3e466eb6a9d11e537bf26b144f194978f7",
        note="speech, 24 kHz, 0.14 to 4.4 kbps; Moshi uses the first 8 codebooks",
        licence="CC-BY-4.0",
        parameters=96_085_825,
        rate=24_000,
        frame_rate=12.5,
        vocabularies=(2048,) * 32,
    ),
    ModelCard(
        name="vocos-encodec-24khz",
        task="decoder",
        family="alm_cli.codecs.vocos",
        source="charactr/vocos-encodec-24khz@4e61d082c08045a4c11e5b148ad93b1d0c591a14",
        note="another decoder for encodec-24khz, better speech from the same tokens",
        licence="MIT",
        parameters=10_081_410,
        rate=24_000,
        frame_rate=75.0,
        vocabularies=(1024,) * 16,
        files=("pytorch_model.bin",),
        needs=("encodec-24khz",),
    ),
    ModelCard(
        name="speechtokenizer",
        task="codec",
        family="alm_cli.codecs.speechtokenizer",
        source="fnlp/SpeechTokenizer@4d54939beef00572fa7bfe41ee35a335c3732f51",
        note="speech, 16 kHz, the first codebook carries content, 4 kbps",
        licence="Apache-2.0",
        parameters=111_266_241,
        rate=16_000,
        frame_rate=50.0,
        vocabularies=(1024,) * 8,
        files=("speechtokenizer_hubert_avg/*",),
    ),
    *(
        ModelCard(
            name=name,
            task="codec",
            family="alm_cli.codecs.dac",
            source=source,
            note=note,
            licence="MIT",
            parameters=parameters,
            rate=rate,
            frame_rate=rate / hop,
            vocabularies=(1024,) * codebooks,
        )
        # The revisions that most others have pinned; the weights have not changed since July 2024.
        for name, source, rate, hop, codebooks, parameters, note in (
            (
                "dac-16khz",
                "descript/dac_16khz@7c2fc5e759f1f501aefc6e7a0265cc57f5d17ba7",
                *(16_000, 320, 12, 74_141_697),
                "speech and music, 16 kHz, 0.5 to 6 kbps",
            ),
            (
                "dac-24khz",
                "descript/dac_24khz@6ba020b5ba7d9d8076fb90db7e67f27e31980f6e",
                *(24_000, 320, 32, 74_653_857),
                "speech and music, 24 kHz, 0.75 to 24 kbps",
            ),
            (
                "dac-44khz",
                "descript/dac_44khz@c1bc521685adf9cfe247bc39a5ca58917eda1ac4",
                *(44_100, 512, 9, 76_620_777),
                "speech and music, 44.1 kHz, 0.86 to 7.75 kbps",
            ),
        )
    ),
    *(
        ModelCard(
            name=name,
            task="codec",
            family="alm_cli.codecs.snac",
            source=source,
            note=note,
            licence="MIT",
            parameters=parameters,
            rate=rate,
            frame_rate=rate / hop,
            vocabularies=(4096,) * codebooks,
            strides=(8, 4, 2, 1)[-codebooks:],
            files=("config.json", "pytorch_model.bin"),
        )
        # The heads of the main branches since April 2024.
        for name, source, rate, hop, codebooks, parameters, note in (
            (
                "snac-24khz",
                "hubertsiuzdak/snac_24khz@d73ad176a12188fcf4f360ba3bf2c2fbbe8f58ec",
                *(24_000, 512, 3, 19_823_577),
                "speech, 24 kHz, 12 to 47 frames a second, 0.98 kbps",
            ),
            (
                "snac-32khz",
                "hubertsiuzdak/snac_32khz@c84c6ac842dc7a44a6fb0f3b576ce94b48a7780f",
                *(32_000, 384, 4, 54_517_921),
                "music, 32 kHz, 10 to 83 frames a second, 1.9 kbps",
            ),
            (
                "snac-44khz",
                "hubertsiuzdak/snac_44khz@873ebef9718b89660340c6f55a2b515e98cfa1d9",
                *(44_100, 384, 4, 54_517_921),
                "music, 44.1 kHz, 14 to 115 frames a second, 2.6 kbps",
            ),
        )
    ),
    *(
        ModelCard(
            name=name,
            task="codec",
            family="alm_cli.codecs.features",
            source="",
            note=note,
            licence="Apache-2.0",
            parameters=0,
            rate=16_000,
            frame_rate=100.0,
            vocabularies=(),
            files=(),
            dimension=dimension,
        )
        for name, dimension, note in (
            ("mel-80", 80, "log-mel spectrogram of Whisper, features, 16 kHz"),
            ("mel-128", 128, "log-mel spectrogram of Whisper large-v3, features, 16 kHz"),
            ("mfcc", 39, "13 cepstra with deltas and their deltas, features, 16 kHz"),
        )
    ),
    *(
        ModelCard(
            name=name,
            task="codec",
            family="alm_cli.encoders.hubert",
            source=source,
            note=f"{note}, features, 16 kHz",
            licence=licence,
            parameters=parameters,
            rate=16_000,
            frame_rate=50.0,
            vocabularies=(),
            dimension=dimension,
            files=("config.json", "preprocessor_config.json", "pytorch_model.bin"),
            model_types=("hubert", "wavlm", "wav2vec2"),
        )
        # The revisions that unpinned downloads have got for years.
        for name, source, note, dimension, parameters, licence in (
            (
                "hubert-base",
                "facebook/hubert-base-ls960@dba3bb02fda4248b6e082697eee756de8fe8aa8a",
                *("English speech", 768, 94_370_816, "Apache-2.0"),
            ),
            (
                "hubert-large",
                "facebook/hubert-large-ll60k@ff022d095678a2995f3c49bab18a96a9e553f782",
                *("English speech", 1024, 315_437_568, "Apache-2.0"),
            ),
            (
                "wavlm-base",
                "microsoft/wavlm-base@efa81aae7ff777e464159e0f877d54eac5b84f81",
                *("English speech", 768, 94_381_040, "that of microsoft/UniSpeech"),
            ),
            (
                "wavlm-large",
                "microsoft/wavlm-large@c1423ed94bb01d80a3f5ce5bc39f6026a0f4828c",
                *("English speech", 1024, 315_451_968, "that of microsoft/UniSpeech"),
            ),
            (
                "wav2vec2-base",
                "facebook/wav2vec2-base@0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8",
                *("English speech", 768, 94_370_816, "Apache-2.0"),
            ),
        )
    ),
    *(
        ModelCard(
            name=name,
            task="recogniser",
            family="alm_cli.encoders.hubert",
            source=source,
            note="English speech, letters by CTC, trained on 960 h of read books",
            licence="Apache-2.0",
            parameters=parameters,
            rate=16_000,
            frame_rate=50.0,
            vocabularies=(32,),
            files=(
                *("config.json", "preprocessor_config.json", "special_tokens_map.json"),
                *("tokenizer_config.json", "vocab.json", weights),
            ),
        )
        # The heads of the main branches, which have not changed since 2022 and 2024.
        for name, source, parameters, weights in (
            (
                "wav2vec2-base-960h",
                "facebook/wav2vec2-base-960h@22aad52d435eb6dbaf354bdad9b0da84ce7d6156",
                *(94_395_424, "model.safetensors"),
            ),
            (
                "wav2vec2-large-960h-lv60-self",
                "facebook/wav2vec2-large-960h-lv60-self@54074b1c16f4de6a5ad59affb4caa8f2ea03a119",
                *(315_470_368, "pytorch_model.bin"),
            ),
            (
                "hubert-large-ls960-ft",
                "facebook/hubert-large-ls960-ft@ece5fabbf034c1073acae96d5401b25be96709d8",
                *(315_470_368, "pytorch_model.bin"),
            ),
        )
    ),
    *(
        ModelCard(
            name=name,
            task="recogniser",
            family="alm_cli.lm.whisper",
            source=source,
            note=note,
            licence=licence,
            parameters=parameters,
            rate=16_000,
            frame_rate=50.0,
            vocabularies=(vocabulary,),
            files=("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"),
        )
        # The heads of the main branches, which many others have pinned.
        for name, source, vocabulary, parameters, licence, note in (
            (
                "whisper-tiny",
                "openai/whisper-tiny@169d4a4341b33bc18d8881c4b69c2e104e1cc0af",
                *(51_865, 37_760_640, "Apache-2.0", "speech in 99 languages, and to English"),
            ),
            (
                "whisper-tiny.en",
                "openai/whisper-tiny.en@87c7102498dcde7456f24cfd30239ca606ed9063",
                *(51_864, 37_760_256, "Apache-2.0", "English speech"),
            ),
            (
                "whisper-base",
                "openai/whisper-base@e37978b90ca9030d5170a5c07aadb050351a65bb",
                *(51_865, 72_593_920, "Apache-2.0", "speech in 99 languages, and to English"),
            ),
            (
                "whisper-base.en",
                "openai/whisper-base.en@911407f4214e0e1d82085af863093ec0b66f9cd6",
                *(51_864, 72_593_408, "Apache-2.0", "English speech"),
            ),
            (
                "whisper-small",
                "openai/whisper-small@973afd24965f72e36ca33b3055d56a652f456b4d",
                *(51_865, 241_734_912, "Apache-2.0", "speech in 99 languages, and to English"),
            ),
            (
                "whisper-small.en",
                "openai/whisper-small.en@e8727524f962ee844a7319d92be39ac1bd25655a",
                *(51_864, 241_734_144, "Apache-2.0", "English speech"),
            ),
            (
                "whisper-medium",
                "openai/whisper-medium@abdf7c39ab9d0397620ccaea8974cc764cd0953e",
                *(51_865, 763_857_920, "Apache-2.0", "speech in 99 languages, and to English"),
            ),
            (
                "whisper-medium.en",
                "openai/whisper-medium.en@2e98eb6279edf5095af0c8dedb36bdec0acd172b",
                *(51_864, 763_856_896, "Apache-2.0", "English speech"),
            ),
            (
                "whisper-large-v1",
                "openai/whisper-large@4ef9b41f0d4fe232daafdb5f76bb1dd8b23e01d7",
                *(51_865, 1_543_304_960, "Apache-2.0", "speech in 99 languages, and to English"),
            ),
            (
                "whisper-large-v2",
                "openai/whisper-large-v2@ae4642769ce2ad8fc292556ccea8e901f1530655",
                *(51_865, 1_543_304_960, "Apache-2.0", "speech in 99 languages, and to English"),
            ),
            (
                "whisper-large-v3",
                "openai/whisper-large-v3@06f233fe06e710322aca913c1bc4249a0d71fce1",
                *(51_866, 1_543_490_560, "Apache-2.0", "speech in 100 languages, and to English"),
            ),
            (
                "whisper-large-v3-turbo",
                "openai/whisper-large-v3-turbo@41f01f3fe87f28c78e2fbf8b568835947dd65ed9",
                *(
                    51_866,
                    808_878_080,
                    "MIT",
                    "speech in 100 languages, nearly as large-v3, faster",
                ),
            ),
            (
                "distil-small.en",
                "distil-whisper/distil-small.en@9e4a67ca4569c30be43a3fe7fba1621e504f0093",
                *(51_864, 166_132_224, "MIT", "English speech, Whisper with a small decoder"),
            ),
            (
                "distil-medium.en",
                "distil-whisper/distil-medium.en@6e61418885eaf4d5cc9f64e508e80ac5b4c052b7",
                *(51_864, 394_375_168, "MIT", "English speech, Whisper with a small decoder"),
            ),
            (
                "distil-large-v2",
                "distil-whisper/distil-large-v2@97d2c8f9cae1b0f6c8fc2e173495ee4cedc05843",
                *(51_865, 756_220_160, "MIT", "English speech, Whisper with a small decoder"),
            ),
            (
                "distil-large-v3",
                "distil-whisper/distil-large-v3@8031d2e6ce6631b7fc45629dddfc00271116d981",
                *(51_866, 756_405_760, "MIT", "English speech, Whisper with a small decoder"),
            ),
            (
                "distil-large-v3.5",
                "distil-whisper/distil-large-v3.5@728a7691f3ff1d3d971528d3203a6e9559165d41",
                *(51_866, 756_405_760, "MIT", "English speech, Whisper with a small decoder"),
            ),
        )
    ),
    ModelCard(
        name="wav2vec2-base-pq",
        task="codec",
        family="alm_cli.encoders.wav2vec2_pq",
        source="facebook/wav2vec2-base@0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8",
        note="English speech, 16 kHz, the pairs of codes that trained wav2vec 2.0, 0.9 kbps",
        licence="Apache-2.0",
        parameters=4_529_792,
        rate=16_000,
        frame_rate=50.0,
        vocabularies=(320,) * 2,
        files=("config.json", "preprocessor_config.json", "pytorch_model.bin"),
    ),
    ModelCard(
        name="w2v-bert-2",
        task="codec",
        family="alm_cli.encoders.w2v_bert",
        # The head of the main branch since January 2024.
        source="facebook/w2v-bert-2.0@da985ba0987f70aaeb84a80f2851cfac8c697a7b",
        note="speech in 143 languages, features, 16 kHz",
        licence="MIT",
        parameters=580_492_096,
        rate=16_000,
        frame_rate=50.0,
        vocabularies=(),
        dimension=1024,
        model_types=("wav2vec2-bert",),
    ),
    ModelCard(
        name="xcodec2",
        task="codec",
        family="alm_cli.codecs.xcodec2",
        source="HKUSTAudio/xcodec2-hf@64bd034d12d441299cdd535b15c33efd6ccdf252",
        note="speech, 16 kHz, one codebook, 0.8 kbps",
        licence="CC-BY-NC-4.0",
        restricted=True,
        parameters=629_280_682,
        rate=16_000,
        frame_rate=50.0,
        vocabularies=(65_536,),
        model_types=("xcodec2", "xcodec", "bigcodec"),  # the latter two: the first release
    ),
    ModelCard(
        name="neucodec",
        task="codec",
        family="alm_cli.codecs.xcodec2",
        source="neuphonic/neucodec@30c1fdd19e68aee65d542cf043750d4c0165893e",
        note="speech, 16 kHz to 24 kHz, one codebook, 0.8 kbps; log in to the hub first",
        licence="Apache-2.0",
        parameters=629_936_682,
        rate=16_000,
        frame_rate=50.0,
        vocabularies=(65_536,),
        model_types=("neucodec",),
    ),
    *(
        ModelCard(
            name=f"mms-tts-{code}",
            task="speaker",
            family="alm_cli.lm.vits",
            source=f"facebook/mms-tts-{code}@{revision}",
            note=f"says {language}; a folder with any other language of MMS works as well",
            licence="Apache-2.0 for the code, CC-BY-NC-4.0 for the weights",
            parameters=28_265_755 + 192 * characters,
            rate=16_000,
            frame_rate=62.5,
            vocabularies=(),
            dimension=192,
            files=(*_SAFETENSORS, "vocab.json", "tokenizer_config.json"),
            restricted=True,
        )
        for code, language, characters, revision in (
            ("eng", "English", 38, "c71de0fe7204c83f1c10820a7d696d0b450048ba"),
            ("ben", "Bengali", 74, "0da99de6074c8829121cdabfbdba423af18e8e56"),
            ("guj", "Gujarati", 60, "b72e80a7eeca90b72e0af2e2d00b77a336ce242d"),
            ("hin", "Hindi", 72, "1d83b223ec78e30b944f7d96bd117eb3d7023303"),
            ("kan", "Kannada", 75, "30e3c5d533e8c559c10bf0d25637fea51b95bd7c"),
            ("mal", "Malayalam", 84, "893b8c6442d6a630896d1d3ac0f429094ddfae82"),
            ("mar", "Marathi", 73, "7af4a6db1df2eb20042d24cc7c180a492df1cc13"),
            ("ory", "Odia", 76, "581f221219b728fab4d53efb24e18134bd1a9e28"),
            ("tam", "Tamil", 58, "e9cf59dae34f0f51e3b1842876a658e4516f9fe4"),
            ("tel", "Telugu", 65, "dea6807154acc01918581982dcd40a116882a14d"),
        )
    ),
    ModelCard(
        name="vits-ljs",
        task="speaker",
        family="alm_cli.lm.vits",
        # The head of the main branch: what is in the caches of others.
        source="kakao-enterprise/vits-ljs@3bcb8321394f671bd948ebf0d086d694dda95464",
        note="says English phonemes; English text where espeak-ng is installed",
        licence="MIT",
        parameters=28_299_931,
        rate=22_050,
        frame_rate=22_050 / 256,
        vocabularies=(),
        dimension=192,
        files=(*_SAFETENSORS, "pytorch_model.bin", "vocab.json", "tokenizer_config.json"),
    ),
    ModelCard(
        name="speecht5",
        task="speaker",
        family="alm_cli.lm.speecht5",
        source="microsoft/speecht5_tts@30fcde30f19b87502b8435427b5f5068e401d5f6",
        note="says English in the voice of an x-vector, 512 numbers in a file",
        licence="MIT",
        parameters=144_431_684,
        rate=16_000,
        frame_rate=62.5,
        vocabularies=(),
        dimension=80,
        files=("config.json", "pytorch_model.bin", "spm_char.model"),
        needs=("speecht5-hifigan",),
    ),
    *(
        ModelCard(
            name=name,
            task="speaker",
            family="alm_cli.lm.bark",
            source=source,
            note=f"speech in 13 languages, laughter and song, {note}",
            licence="MIT",
            parameters=parameters,
            rate=24_000,
            frame_rate=75.0,
            vocabularies=(1024,) * 8,
            files=(
                *("config.json", "generation_config.json", "pytorch_model.bin", "tokenizer.json"),
                *("vocab.txt", "speaker_embeddings/*"),
            ),
            model_types=("bark",),
        )
        # The heads of the main branches, which others have pinned.
        for name, source, parameters, note in (
            (
                "bark",
                "suno/bark@70a8a7d34168586dc5d028fa9666aceade177992",
                *(1_104_780_129, "three large stages"),
            ),
            (
                "bark-small",
                "suno/bark-small@1dbd7a128513b8ae4a4e2130fed57b7ac9da5bcd",
                *(408_598_369, "three small stages"),
            ),
        )
    ),
    ModelCard(
        name="csm-1b",
        task="speaker",
        family="alm_cli.lm.csm",
        # The head of the main branch since its conversion to the names of the hub's library.
        source="sesame/csm-1b@c92a71e1c419772e25be7dc14d952c2521a740ab",
        note="English conversation, 24 kHz; accept its terms on the hub and log in first",
        licence="Apache-2.0; its tokenizer is that of Llama 3.2, under the licence of that",
        parameters=1_648_877_377,
        rate=24_000,
        frame_rate=12.5,
        vocabularies=(2048,) * 32,
        # Not model.safetensors, which holds the same in other names, without the codec.
        files=(
            *("config.json", "tokenizer.json", "transformers-*.safetensors"),
            "transformers.safetensors.index.json",
        ),
    ),
    ModelCard(
        name="dia-1.6b",
        task="speaker",
        family="alm_cli.lm.dia",
        # What everybody has pinned since July 2025.
        source="nari-labs/Dia-1.6B-0626@ef2795fcc29c5abe6ffc91fd33808588b49bbc66",
        note="English dialogues with laughs and sighs, 44.1 kHz; decodes with dac-44khz",
        licence="Apache-2.0",
        parameters=1_687_781_353,
        rate=44_100,
        frame_rate=44_100 / 512,
        vocabularies=(1024,) * 9,
        # Not the same twice more, as pytorch_model.bin and dia-v1.pth.
        files=("config.json", "model-*.safetensors", "model.safetensors.index.json"),
        needs=("dac-44khz",),
    ),
    *(
        ModelCard(
            name=f"pocket-tts{name}",
            task="speaker",
            family="alm_cli.lm.pocket_tts",
            source=f"kyutai/pocket-tts-without-voice-cloning@{_POCKET}",
            note=f"says {language} in 26 voices, {note}",
            licence="MIT for the code, CC-BY-4.0 for the weights; voices have their own",
            parameters=parameters,
            rate=24_000,
            frame_rate=12.5,
            vocabularies=(),
            dimension=32,
            files=(
                f"languages/{folder}/model.safetensors",
                f"languages/{folder}/tokenizer.*",
                f"languages/{folder}/embeddings/*.safetensors",
            ),
        )
        for name, folder, language, parameters, note in (
            ("", "english", "English", 99_753_122, "streamed"),
            *(
                (f"-{language}{layers}", f"{language}{folder}", language.title(), count, note)
                for language in ("dutch", "french", "german", "italian", "portuguese", "spanish")
                for layers, folder, count, note in (
                    ("", "", 99_753_122, "streamed"),
                    ("-24l", "_24l", 326_319_266, "streamed, 24 layers"),
                )
            ),
            *(
                (f"-{size}", f"english_{size}_refl_2026-10", "English", count, "tiny, streamed")
                for size, count in (("18m", 18_174_034), ("7m", 6_862_642), ("2m", 1_922_910))
            ),
        )
    ),
    ModelCard(
        name="pocket-tts-cloning",
        task="speaker",
        family="alm_cli.lm.pocket_tts",
        source="kyutai/pocket-tts@db04f0e653473e5c7333c69686ac92b7460b0c1d",
        note="pocket-tts in the voice of any recording; log in to the hub first",
        licence="MIT for the code, CC-BY-4.0 for the weights, whose terms are accepted on the hub",
        parameters=118_000_000,
        rate=24_000,
        frame_rate=12.5,
        vocabularies=(),
        dimension=32,
        files=("languages/english/model.safetensors", "languages/english/tokenizer.*"),
    ),
)

# What makes a wave of the spectra of speecht5.
SPEECHT5_VOCODER = ModelCard(
    name="speecht5-hifigan",
    task="part",
    family="alm_cli.lm.hifigan",
    source="microsoft/speecht5_hifigan@bb6f429406e86a9992357a972c0698b22043307d",
    note="the vocoder of speecht5",
    licence="MIT",
    parameters=12_656_257,
    rate=16_000,
    frame_rate=62.5,
    vocabularies=(),
    dimension=80,
    files=("config.json", "pytorch_model.bin"),
)

# What composers listen to texts with, where it is not in their own files.
T5_ENCODERS = {
    name: ModelCard(
        name=name,
        task="part",
        family="alm_cli.encoders.t5",
        # The heads of the main branches since 2023 and 2024.
        source=f"google-t5/{name}@{revision}",
        note="reads the texts of composers",
        licence="Apache-2.0",
        parameters=parameters,
        rate=0,
        frame_rate=0.0,
        vocabularies=(),
        dimension=dimension,
        files=("config.json", "model.safetensors", "tokenizer.json", "spiece.model"),
    )
    for name, revision, parameters, dimension in (
        ("t5-base", "a9723ea7f1b39c1eae772870f3b547bf6ef7e6c1", 109_628_544, 768),
        ("t5-large", "150ebc2c4b72291e770f58e6057481c8d2ed331a", 334_939_648, 1024),
    )
}

# Families whose published weights have no revision to pin: they are read from folders.
_UNLISTED = (
    *("alm_cli.codecs.soundstream", "alm_cli.encoders.t5"),
    *("alm_cli.lm.magnet", "alm_cli.lm.valle"),
)


def find_card(name: str) -> ModelCard:
    """The card of a model or of a part of one; a ModelError suggests the nearest names."""
    cards = {card.name: card for card in CATALOG}
    parts = {card.name: card for card in (SPEECHT5_VOCODER, *T5_ENCODERS.values())}
    if name in cards or name in parts:
        return cards.get(name) or parts[name]
    wanted = name.lower()
    near = [known for known in cards if known.startswith(wanted)] if wanted else []
    near = near or get_close_matches(wanted, cards) or list(cards)
    raise ModelError(
        f"there is no model {name!r}",
        hint=f"{' or '.join(near)}? `alm models` lists all; a folder is written ./{name}",
    )


def family_of(model_type: str) -> str | None:
    """The module that builds the models whose config.json has this `model_type`."""
    for card in CATALOG:
        own = card.family.rpartition(".")[2]
        if model_type in card.model_types or model_type.replace("-", "_") == own:
            return card.family
    return next((name for name in _UNLISTED if name.rpartition(".")[2] == model_type), None)


def families() -> tuple[str, ...]:
    """The modules of all families, in the order of their cards."""
    return tuple(dict.fromkeys((*(card.family for card in CATALOG), *_UNLISTED)))
