"""Predictions in files: anyone's are read block by block, and clipnb's own are written.

A table (CSV, Parquet, Arrow, JSON lines, JSON) holds one image a row, with a label and a prediction, or one column a
class; a NumPy file holds the scores (N, C) of `predict_proba`. Memory grows by some twenty bytes a row, whatever the
file holds besides.
"""

from clipnb.predictions._predictions import Predictions, keys_of, same_images
from clipnb.predictions._read import read_predictions
from clipnb.predictions._write import write_predictions

__all__ = ["Predictions", "keys_of", "read_predictions", "same_images", "write_predictions"]
