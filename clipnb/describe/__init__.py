"""Texts about single classes: queries to a language model, files of descriptions, and controls."""

from clipnb.describe._controls import keyword_texts, random_words, shuffled
from clipnb.describe._files import Descriptions, check_texts, load_descriptions, unmatched
from clipnb.describe._query import (
    DRAWING_QUERY,
    QUERY,
    AnswerError,
    Question,
    check_answer,
    load_query,
    query,
    questions,
    refusal,
)

from clipnb.describe import llm  # isort: skip - it imports the names above

__all__ = [
    "DRAWING_QUERY",
    "QUERY",
    "AnswerError",
    "Descriptions",
    "Question",
    "check_answer",
    "check_texts",
    "keyword_texts",
    "llm",
    "load_descriptions",
    "load_query",
    "query",
    "questions",
    "random_words",
    "refusal",
    "shuffled",
    "unmatched",
]
