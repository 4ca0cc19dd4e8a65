"""Which settings weights need: those of open_clip's record of a tag, or of all tags of an architecture."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, fields
from typing import Any

from clipnb._checks import format_value
from clipnb.errors import InputError

ARCHITECTURE = "architecture"  # as `like`: an architecture's own settings, where weights do not bring any


@dataclass(frozen=True)
class Settings:
    """What weights were trained with and do not hold themselves: the activation, and how pixels are prepared."""

    quick_gelu: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize_mode: str
    fill_color: int

    @classmethod
    def of_record(cls, name: str, record: dict[str, Any]) -> Settings:
        """The settings of an open_clip architecture under one record.

        What the record states replaces the architecture's own activation and open_clip's default preprocessing; where
        it states nothing, those stay.
        """
        import open_clip
        from open_clip.transform import PreprocessCfg, merge_preprocess_dict

        activation = record.get("quick_gelu")
        if activation is None:
            activation = (open_clip.get_model_config(name) or {}).get("quick_gelu", False)
        pixels = merge_preprocess_dict(PreprocessCfg(), record)
        return cls(
            bool(activation),
            tuple(pixels["mean"]),
            tuple(pixels["std"]),
            pixels["interpolation"],
            pixels["resize_mode"],
            pixels["fill_color"],
        )

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How pixels are prepared, as open_clip's `force_preprocess_cfg`; the image size is the architecture's."""
        return {name: value for name, value in asdict(self).items() if name != "quick_gelu"}


def known_tags(name: str) -> list[str]:
    """Every tag that open_clip has weights of this architecture for."""
    import open_clip

    return open_clip.list_pretrained_tags_by_model(name)


def find_tag(name: str, tag: str) -> str | None:
    """A tag as open_clip's records spell it ("laion2b-e16" is "laion2b_e16"); None if there is no such tag."""
    spelled = tag.lower().replace("-", "_")
    return next((known for known in known_tags(name) if known == spelled), None)


def settings_of_tag(name: str, tag: str) -> Settings:
    """The settings in open_clip's record of this architecture and tag."""
    import open_clip

    return Settings.of_record(name, open_clip.get_pretrained_cfg(name, tag))


def settings_of_file(name: str, like: str | None) -> Settings:
    """The settings for weights of this architecture that come from a file, which does not state them.

    They are those of the tag `like`, or those that all tags of the architecture agree on. An architecture without tags
    has open_clip's defaults; so has every architecture with `like` = ARCHITECTURE, and a warning lists its tags where
    they disagree.

    Raises:
        InputError: the tags disagree and `like` is None, or `like` is not one of them.
    """
    tags = known_tags(name)
    if like not in (None, ARCHITECTURE):
        tag = find_tag(name, like)
        if tag is None:
            raise InputError(
                f"Expected `like` (--like) to be a tag of {name}: {', '.join(tags) or 'it has no tags'}; "
                f"got {format_value(like)}"
            )
        return settings_of_tag(name, tag)
    groups: dict[Settings, list[str]] = {}
    for tag in tags:
        groups.setdefault(settings_of_tag(name, tag), []).append(tag)
    if len(groups) > 1 and like == ARCHITECTURE:
        warnings.warn(
            f"A file does not say which settings its weights need, and those of {name}'s tags differ: "
            f"{_listed(groups)}; the settings of the architecture itself are used, like='TAG' chooses others",
            stacklevel=2,
        )
        return Settings.of_record(name, {})
    if len(groups) > 1:
        raise InputError(
            f"Expected `like` (--like TAG) for weights of {name} from a file, got none: "
            f"a file does not say which settings its weights need, and those of {name}'s tags differ; "
            f"take one of the tags whose settings fit: {_listed(groups)}"
        )
    return next(iter(groups), None) or Settings.of_record(name, {})


def _listed(groups: dict[Settings, list[str]]) -> str:
    """Groups of tags with the settings in which they differ from another group."""
    differing = [
        field.name for field in fields(Settings) if len({getattr(settings, field.name) for settings in groups}) > 1
    ]
    return "; ".join(f"{_described(settings, differing)}: {', '.join(tags)}" for settings, tags in groups.items())


def _described(settings: Settings, names: list[str]) -> str:
    parts = []
    for name in names:
        value = getattr(settings, name)
        if name == "quick_gelu":
            parts.append("QuickGELU" if value else "GELU")
        elif isinstance(value, tuple):
            parts.append(f"{name} {', '.join(f'{number:.3g}' for number in value)}")
        else:
            parts.append(f"{name.replace('_', ' ')} {value}")
    return " and ".join(parts)
