# The one list of public names: editors, the API pages, the tests and `dir(clipnb)` follow it.
from . import datasets as datasets
from . import describe as describe
from . import embeddings as embeddings
from . import encode as encode
from . import ensemble as ensemble
from . import errors as errors
from . import evaluation as evaluation
from . import explain as explain
from . import intervals as intervals
from . import margin as margin
from . import metrics as metrics
from . import models as models
from . import paired as paired
from . import paper as paper
from . import plots as plots
from . import prompts as prompts
from . import report as report
from . import similarity as similarity
from . import widgets as widgets
from . import worst as worst
from . import zeroshot as zeroshot
from .datasets import load_dataset as load_dataset
from .embeddings import Embeddings as Embeddings
from .encode import encode_images as encode_images
from .encode import encode_texts as encode_texts
from .errors import InputError as InputError
from .evaluation import EvaluationResult as EvaluationResult
from .evaluation import evaluate as evaluate
from .evaluation import evaluate_prompts as evaluate_prompts
from .evaluation import evaluate_store as evaluate_store
from .intervals import Score as Score
from .models import load_model as load_model
from .report import audit as audit
from .zeroshot import prompt_vectors as prompt_vectors
from .zeroshot import zero_shot_classifier as zero_shot_classifier

__version__: str
