"""Live figures for notebooks and for the pages they become.

Each figure computes its numbers in Python, keeps them in synced traits, and is drawn by the JavaScript file beside its
module. It needs no kernel: in a static page the same numbers are looked up. With a kernel, the traits follow the
reader.
"""

from clipnb._moved import renamed
from clipnb.widgets._atlas import ClassAtlas
from clipnb.widgets._base import LiveFigure
from clipnb.widgets._confusion import ConfusionExplorer
from clipnb.widgets._editor import ConfusionEditor
from clipnb.widgets._guess import CurveGuess, NumberGuess
from clipnb.widgets._luck import LuckExplorer
from clipnb.widgets._names import NameExplorer
from clipnb.widgets._paradox import ParadoxExplorer
from clipnb.widgets._prompts import PromptWeightExplorer
from clipnb.widgets._recall import RecallAtKExplorer
from clipnb.widgets._reject import RejectExplorer
from clipnb.widgets._shares import ShareExplorer
from clipnb.widgets._tails import TailExplorer
from clipnb.widgets._threshold import ThresholdExplorer
from clipnb.widgets._transfer import TransferExplorer

__all__ = [
    "ClassAtlas",
    "ConfusionEditor",
    "ConfusionExplorer",
    "CurveGuess",
    "LiveFigure",
    "LuckExplorer",
    "NameExplorer",
    "NumberGuess",
    "ParadoxExplorer",
    "PromptWeightExplorer",
    "RecallAtKExplorer",
    "RejectExplorer",
    "ShareExplorer",
    "TailExplorer",
    "ThresholdExplorer",
    "TransferExplorer",
]

__getattr__ = renamed(__name__, {"WorstStrip": "ClassAtlas"})
