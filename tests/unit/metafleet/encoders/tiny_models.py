"""Random models of a few kB, in the folders that people have."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

SIDE = 32
_BERT_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rain", "sun", "in", "paris", "##s")
_SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def spread(model: torch.nn.Module) -> torch.nn.Module:
    """Give parameters values so large that a wrong output shows."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    return model


def write_vit(folder: Path, **config: Any) -> Path:
    from transformers import ViTConfig, ViTModel  # noqa: PLC0415

    values = {**_SMALL, "image_size": SIDE, "patch_size": 8, **config}
    spread(ViTModel(ViTConfig(**values))).save_pretrained(folder)
    write_preprocessor(folder)
    return folder


def write_preprocessor(folder: Path, **values: Any) -> None:
    found = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.2, 0.3, 0.4],
        "image_processor_type": "ViTImageProcessor",
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": SIDE, "width": SIDE},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(found | values))


def write_bert(folder: Path, n_positions: int = 12) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizerFast  # noqa: PLC0415

    config = BertConfig(**_SMALL, vocab_size=10, max_position_embeddings=n_positions)
    spread(BertModel(config)).save_pretrained(folder)
    write_tokenizer(folder, BertTokenizerFast, n_positions)
    return folder


def write_tokenizer(folder: Path, tokenizer: Any, n_positions: int) -> None:
    vocabulary = {word: number for number, word in enumerate(_BERT_WORDS)}
    tokenizer(vocab=vocabulary, model_max_length=n_positions).save_pretrained(folder)


def write_gpt2(folder: Path, *, padding_side: str = "right", pad: str | None = "[PAD]") -> Path:
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast  # noqa: PLC0415

    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 10, "n_positions": 16}
    ends = {"bos_token_id": 2, "eos_token_id": 3}
    spread(GPT2Model(GPT2Config(**sizes, **ends))).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=_word_tokenizer(),
        pad_token=pad,
        unk_token="[UNK]",
        padding_side=padding_side,
        model_max_length=16,
    ).save_pretrained(folder)
    return folder


def write_images(folder: Path, model: Any, side: int = SIDE) -> Path:
    """Write a model of pictures."""
    spread(model).save_pretrained(folder)
    write_preprocessor(folder, size={"height": side, "width": side})
    return folder


def _word_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415

    vocabulary = {word: number for number, word in enumerate(_BERT_WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def write_static(folder: Path) -> Path:
    """Write static vectors of sentence-transformers."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415
    from sentence_transformers.models import StaticEmbedding  # noqa: PLC0415

    module = StaticEmbedding(_word_tokenizer(), embedding_dim=8)
    SentenceTransformer(modules=[spread(module)]).save(str(folder))
    return folder


def write_wav2vec2(folder: Path) -> Path:
    from transformers import (  # noqa: PLC0415
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Model,
    )

    config = Wav2Vec2Config(
        **_SMALL,
        conv_dim=(8, 16),
        conv_kernel=(10, 8),
        conv_stride=(5, 4),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer",
    )
    spread(Wav2Vec2Model(config)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=8_000, return_attention_mask=True).save_pretrained(
        folder
    )
    return folder


def write_clip(folder: Path) -> Path:
    from transformers import BertTokenizerFast, CLIPConfig, CLIPModel  # noqa: PLC0415

    text = {"vocab_size": 10, "max_position_embeddings": 12, "eos_token_id": 3, "bos_token_id": 2}
    vision = {"image_size": SIDE, "patch_size": 8}
    config = CLIPConfig(text_config=_SMALL | text, vision_config=_SMALL | vision, projection_dim=8)
    spread(CLIPModel(config)).save_pretrained(folder)
    write_preprocessor(
        folder,
        size={"shortest_edge": 40},
        crop_size={"height": SIDE, "width": SIDE},
        do_center_crop=True,
    )
    write_tokenizer(folder, BertTokenizerFast, 12)
    return folder


def pictures(n: int, side: int = SIDE) -> Any:
    return np.random.default_rng(n).integers(0, 256, (n, 3, side, side), np.uint8)


def texts(*each: str, width: int = 4096) -> Any:
    items = np.zeros((len(each), width), np.uint8)
    for row, text in zip(items, each, strict=True):
        row[: len(text.encode())] = np.frombuffer(text.encode(), np.uint8)
    return items


def waves(n: int, n_samples: int) -> Any:
    return np.random.default_rng(n).standard_normal((n, n_samples)).astype(np.float32) * 0.1


def write_timm(folder: Path, **values: Any) -> Any:
    """Write a small vision transformer; return the model."""
    import timm  # noqa: PLC0415
    from timm.models import save_for_hf  # noqa: PLC0415

    sizes = {"img_size": SIDE, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=5, **sizes)
    spread(model)
    data = {
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": (0.4, 0.5, 0.6),
        "std": (0.2, 0.3, 0.4),
        "input_size": (3, SIDE, SIDE),
        **values,
    }
    save_for_hf(
        model,
        folder,
        model_config={"pretrained_cfg": data, "model_args": sizes},
        model_args=sizes,
        safe_serialization=True,
    )
    return model.eval()


OPEN_CLIP: dict[str, Any] = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": SIDE, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def write_open_clip(folder: Path) -> Any:
    """Write a small model of two towers; return the model."""
    import open_clip  # noqa: PLC0415

    model = spread(open_clip.CLIP(**json.loads(json.dumps(OPEN_CLIP)))).eval()
    _write_towers(folder, model, OPEN_CLIP)
    return model


def write_open_clip_of_bert(folder: Path, base: Path) -> tuple[Path, Any]:
    """Write a model whose tower of texts has the architecture of a model of transformers."""
    import open_clip  # noqa: PLC0415
    from transformers import BertTokenizerFast  # noqa: PLC0415

    text = {
        "hf_model_name": str(base),
        "hf_tokenizer_name": str(base),
        "hf_proj_type": "mlp",
        "hf_pooler_type": "mean_pooler",
    }
    config = {**OPEN_CLIP, "text_cfg": {**text, "context_length": 12}, "custom_text": True}
    values = json.loads(json.dumps(config))
    values["text_cfg"]["hf_model_pretrained"] = False
    del values["custom_text"]
    model = spread(open_clip.CustomTextCLIP(**values)).eval()
    _write_towers(folder, model, config)
    write_tokenizer(folder, BertTokenizerFast, 12)
    return folder, model


def _write_towers(folder: Path, model: torch.nn.Module, config: Any) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415

    folder.mkdir(exist_ok=True)
    preprocessing = {
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.4],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    values = {"model_cfg": config, "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(values))
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")


def write_sentences(folder: Path) -> Path:
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer  # noqa: PLC0415

    words = Transformer(str(write_bert(folder / "bert")))
    model = SentenceTransformer(modules=[words, Pooling(16)])
    model.save(str(folder / "st"))
    return folder / "st"
