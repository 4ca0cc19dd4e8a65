"""Images and prompts to unit-norm vectors: the only part of the package that runs a network."""

from clipnb.encode._images import encode_images, encode_to_store
from clipnb.encode._precision import changed_predictions
from clipnb.encode._ray import encode_with_ray
from clipnb.encode._textcache import cache_folder
from clipnb.encode._texts import encode_texts

__all__ = ["cache_folder", "changed_predictions", "encode_images", "encode_texts", "encode_to_store", "encode_with_ray"]
