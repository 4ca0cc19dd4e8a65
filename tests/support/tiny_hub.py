"""Tiny random checkpoints of every family that `transformers:` loads, with tokenizers of some fifty pieces."""

from pathlib import Path

import torch

TEXT = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.5,
}
VISION = TEXT | {"image_size": 32, "patch_size": 8}
FAMILIES = ("clip", "siglip", "siglip2", "altclip", "chinese_clip", "align")
LETTERS = "abcdefghijklmnopqrstuvwxyz.,'0123456789"


def make_checkpoint(family: str, folder: Path) -> Path:
    """Write a checkpoint of random weights with its processor, as `save_pretrained` does, and return the folder."""
    torch.manual_seed(0)
    model, processor = globals()[f"_{family}"]()
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():  # a family's own start makes vectors of all texts nearly the same
        if weight.ndim > 1:
            weight.data.normal_(std=0.3, generator=generator)
        elif name in ("logit_scale", "logit_bias", "temperature"):
            weight.data.fill_({"logit_scale": 2.5, "logit_bias": -7.0, "temperature": 0.5}[name])
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _byte_pairs():
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    pieces = sorted(ByteLevel.alphabet())
    pieces += [f"{piece}</w>" for piece in pieces] + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=20)


def _words():
    from transformers import BertTokenizer

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS), *"犬猫"]
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=512)


def _clip():
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    tokenizer = _byte_pairs()
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 20, "eos_token_id": tokenizer.eos_token_id}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16))
    return model, CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32), tokenizer)


def _unigram(model_max_length):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *((f"\u2581{x}", -4.0) for x in LETTERS)]
    tokenizer = Tokenizer(models.Unigram([*pieces, *((x, -4.0) for x in LETTERS), ("\u2581", -3.0)], unk_id=2))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="</s>",  # as SigLIP's: text is filled up with the token that ends it
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=model_max_length,
        model_input_names=["input_ids"],
    )


def _siglip():
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    tokenizer = _unigram(16)
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 16}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))
    return model, SiglipProcessor(SiglipImageProcessor(size={"height": 32, "width": 32}), tokenizer)


def _siglip2():
    from transformers import Siglip2Config, Siglip2ImageProcessor, Siglip2Model, Siglip2Processor

    tokenizer = _unigram(64)
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 24}
    vision = TEXT | {"patch_size": 16, "num_patches": 256}
    model = Siglip2Model(Siglip2Config(text_config=text, vision_config=vision))
    return model, Siglip2Processor(Siglip2ImageProcessor(), tokenizer)


def _altclip():
    from transformers import AltCLIPConfig, AltCLIPModel, AltCLIPProcessor, CLIPImageProcessor, XLMRobertaTokenizer

    pieces = ["<s>", "<pad>", "</s>", "<unk>", *(f"\u2581{x}" for x in LETTERS), *LETTERS, "\u2581", "<mask>"]
    tokenizer = XLMRobertaTokenizer(vocab=[(piece, -float(i > 3)) for i, piece in enumerate(pieces)])
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 40, "project_dim": 16}
    model = AltCLIPModel(AltCLIPConfig(text_config=text, vision_config=VISION, projection_dim=16))
    return model, AltCLIPProcessor(CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32), tokenizer)


def _chinese_clip():
    from transformers import ChineseCLIPConfig, ChineseCLIPImageProcessor, ChineseCLIPModel, ChineseCLIPProcessor

    tokenizer = _words()
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 48}
    model = ChineseCLIPModel(ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=16))
    images = ChineseCLIPImageProcessor(size={"height": 32, "width": 32}, crop_size=32)
    return model, ChineseCLIPProcessor(images, tokenizer)


def _align():
    from transformers import AlignConfig, AlignModel, AlignProcessor, EfficientNetImageProcessor

    tokenizer = _words()
    text = TEXT | {"vocab_size": len(tokenizer), "max_position_embeddings": 80}
    vision = {
        "image_size": 32,
        "width_coefficient": 0.25,
        "depth_coefficient": 0.25,
        "hidden_dim": 16,
        "kernel_sizes": [3, 3],
        "in_channels": [32, 16],
        "out_channels": [16, 64],  # x width_coefficient is the projection: the vision tower has none
        "depthwise_padding": [],
        "strides": [1, 2],
        "num_block_repeats": [1, 1],
        "expand_ratios": [1, 6],
    }
    model = AlignModel(AlignConfig(text_config=text, vision_config=vision, projection_dim=16))
    images = EfficientNetImageProcessor(size={"height": 40, "width": 40}, crop_size={"height": 32, "width": 32})
    return model, AlignProcessor(images, tokenizer)
