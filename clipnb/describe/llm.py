"""Ask a language model for descriptions, hosted or local, through litellm: cached, paced, within a ceiling of cost.

Keys come from the environment, where litellm looks for them, and are taken out of everything that is kept or said.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from clipnb._checks import listed, real_number, require_attribute, text_of, whole_number
from clipnb._files import path_of, write_atomically
from clipnb._format import first_line
from clipnb.describe import QUERY, Descriptions, Question, check_answer, query
from clipnb.errors import InputError

LONGEST_WAIT = 600  # seconds; a server that asks for more is left alone until the next run


@dataclass(frozen=True)
class Asker:
    """How to ask: which model, where, how fast, and for how much.

    model: as litellm names it ("openai/gpt-4o-mini", "ollama/llama3.1").
    cache: folder of raw answers, one JSON file each; what is there is not asked again.
    api_base: URL of a server of your own that speaks the OpenAI protocol; None: the provider's.
    price: US dollars per million tokens (in, out); None: from litellm's table.
    max_cost: ceiling in US dollars for all calls of a run.
    concurrency, per_minute: most calls at a time, and in a minute (None: no limit).
    asks: how often a class is asked until an answer can be used. retries: of a call that fails.
    timeout: seconds for one call. max_tokens: of one answer.
    """

    model: str
    cache: Path
    api_base: str | None = None
    price: tuple[float, float] | None = None
    max_cost: float = 1.0
    concurrency: int = 4
    per_minute: float | None = None
    asks: int = 3
    retries: int = 5
    timeout: float = 60.0
    max_tokens: int = 600

    def __post_init__(self) -> None:
        text_of(self.model, "model")
        path_of(self.cache, "cache")
        for name, lowest, highest in (
            ("concurrency", 1, 1000),
            ("asks", 1, 100),
            ("retries", 0, 100),
            ("max_tokens", 1, 10**6),
        ):
            whole_number(getattr(self, name), name, lowest, highest)
        for name in ("timeout", "per_minute"):
            if (
                not (name == "per_minute" and self.per_minute is None)
                and not 0 < real_number(getattr(self, name), name) < 1e9
            ):
                raise InputError(f"Expected `{name}` > 0, got {getattr(self, name)}")
        if not 0 <= real_number(self.max_cost, "max_cost") < 1e9:
            raise InputError(f"Expected `max_cost` >= 0, got {self.max_cost}")
        if self.price is not None and (
            len(pair := listed(self.price, "price", "two numbers")) != 2
            or not all(0 <= real_number(p, "price") < 1e9 for p in pair)
        ):
            raise InputError(f"Expected `price` as two numbers >= 0, in and out, got {self.price}")
        if self.api_base is not None:
            text_of(self.api_base, "api_base")
        if self.api_base and re.search(r"//[^/]*@", self.api_base):
            raise InputError("Expected `api_base` without a user name or password: keys come from the environment only")


@dataclass(frozen=True)
class Estimate:
    """What asking will take: calls not in the cache, tokens (rough, on the safe side), US dollars."""

    calls: int
    tokens_in: int
    tokens_out: int
    cost: float

    def __str__(self) -> str:
        return f"{self.calls} calls, up to {self.tokens_in} tokens in and {self.tokens_out} out, up to ${self.cost:.4f}"


@dataclass
class Answers:
    """What was answered: usable descriptions, classes whose answers were refused, classes that got no answer, and the effort."""

    by_class: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # classname: why its last answer cannot be used
    missing: dict[str, str] = field(default_factory=dict)  # classname: why there is none; asked again by the next run
    calls: int = 0
    cost: float = 0.0  # US dollars of this run

    def descriptions(self, asker: Asker, template: str = QUERY) -> Descriptions:
        """The usable ones in the form that `load_descriptions` reads back."""
        return Descriptions(
            self.by_class,
            {
                "written_by": asker.model,
                "date": _now()[:10],
                "query": template,
                "reviewed": "By rule only (`describe.check_answer`); no person has reviewed them.",
            },
        )


def estimate(asker: Asker, questions: Sequence[Question], count: int = 5, template: str = QUERY) -> Estimate:
    """What a run would take if every answer could be used at once; nothing is called.

    Raises:
        InputError: litellm has no price for the model and `asker.price` is None.
    """
    require_attribute(asker, "asker", "max_tokens", "llm.Asker")
    whole_number(count, "count", 1), text_of(template, "template")
    texts = [
        _text(require_attribute(question, "questions", "classname", "describe.questions"), count, template)
        for question in listed(questions, "questions", "questions")
    ]
    texts = [text for text in texts if not _cache_file(asker, text).exists()]
    tokens_in, tokens_out = sum(map(_tokens, texts)), asker.max_tokens * len(texts)
    price = _price(asker) if texts else (0.0, 0.0)
    return Estimate(len(texts), tokens_in, tokens_out, (tokens_in * price[0] + tokens_out * price[1]) / 1e6)


def ask(
    asker: Asker,
    questions: Sequence[Question],
    count: int = 5,
    template: str = QUERY,
    allow_rivals: bool = False,
    too_long: Callable | None = None,
    said: Callable[[str], None] = lambda line: None,
) -> Answers:
    """Ask about every class until its answer can be used (`describe.check_answer`), at most `asker.asks` times.

    A call that fails for a passing reason (429, 5xx, time-out) is repeated with growing pauses, or as long after as the server
    asks for; meanwhile no other call starts. Every answer is in the cache before the next one is asked for, so a run that was
    cut off goes on where it stopped, and a finished one calls nothing.

    Args:
        asker: model, cache, pace and ceiling.
        questions: from `describe.questions`.
        count, template, allow_rivals, too_long: as in `describe.query` and `describe.check_answer`.
        said: told one line for every pause and every refused answer.

    Raises:
        InputError: litellm is not installed, no price is known, the estimate is above the ceiling, or the cache cannot be used.
    """
    expected = estimate(asker, questions, count, template)
    if expected.cost > asker.max_cost:
        raise InputError(
            f"Expected a cost of at most ${asker.max_cost:.4f}, estimated are {expected}; raise the ceiling or ask about fewer classes"
        )
    try:
        asker.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot use the folder {asker.cache} as a cache: {error.strerror}") from None
    run = _Run(asker, said)
    answers = Answers()

    def one(question: Question) -> None:
        reason = None
        for turn in range(asker.asks):
            text = _text(question, count, template)
            if turn:
                text += f"\n\nYour answer number {turn} cannot be used: {reason}. Answer again."
            try:
                answer = run.answer(text)
            except _NoAnswer as error:
                answers.missing[question.classname] = str(error)
                return
            try:
                answers.by_class[question.classname] = check_answer(answer, question, count, allow_rivals, too_long)
                return
            except InputError as error:
                reason = str(error)
                said(f"{question.classname!r}, answer {turn + 1}: {reason}")
        answers.refused[question.classname] = reason

    pool = ThreadPoolExecutor(asker.concurrency)
    try:
        list(pool.map(one, questions))
    finally:
        run.stopped.set()
        pool.shutdown(cancel_futures=True)
    for name in ("by_class", "refused", "missing"):  # in the order of the questions, not of the answers
        found = getattr(answers, name)
        setattr(answers, name, {q.classname: found[q.classname] for q in questions if q.classname in found})
    answers.calls, answers.cost = run.calls, run.cost
    return answers


class _NoAnswer(Exception):
    pass


class _Run:
    """Pace, spending and cache of one run, shared by its threads."""

    def __init__(self, asker: Asker, said) -> None:
        self.asker, self.said = asker, said
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.next_start, self.calls, self.cost, self.promised = 0.0, 0, 0.0, 0.0

    def answer(self, text: str) -> str:
        path = _cache_file(self.asker, text)
        if path.exists():
            return _read(path)
        price = _price(self.asker)
        most = (_tokens(text) * price[0] + self.asker.max_tokens * price[1]) / 1e6
        with self.lock:
            if self.cost + self.promised + most > self.asker.max_cost:
                raise _NoAnswer(f"the ceiling of ${self.asker.max_cost:.4f} is reached")
            self.promised += most
        spent = 0.0
        try:
            content, usage = self._call(text)
            spent = (
                sum(usage.get(kind, 0) * rate for kind, rate in zip(("prompt_tokens", "completion_tokens"), price))
                / 1e6
                if usage
                else most
            )
        finally:
            with self.lock:
                self.promised -= most
                self.cost += spent
        entry = {
            "model": self.asker.model,
            "query": text,
            "date": _now(),
            "hash": path.stem,
            "answer": without_keys(content),
            "usage": usage,
        }
        write_atomically(path, (json.dumps(entry, ensure_ascii=False, indent=1) + "\n").encode())
        return entry["answer"]

    def _call(self, text: str) -> tuple[str, dict]:
        litellm = _litellm()
        for turn in range(self.asker.retries + 1):
            self._wait_for_turn()
            try:
                response = litellm.completion(
                    model=self.asker.model,
                    messages=[{"role": "user", "content": text}],
                    max_tokens=self.asker.max_tokens,
                    timeout=self.asker.timeout,
                    api_base=self.asker.api_base,
                    num_retries=0,
                    max_retries=0,
                    drop_params=True,
                )
                usage = getattr(response, "usage", None)
                tokens = (
                    {kind: int(getattr(usage, kind, 0) or 0) for kind in ("prompt_tokens", "completion_tokens")}
                    if usage
                    else {}
                )
                return response.choices[0].message.content or "", tokens
            except Exception as error:  # litellm maps every provider's own kinds to its own, all with a status
                status = getattr(error, "status_code", None)
                line = f"{type(error).__name__}: {without_keys(first_line(error))}"
                if not (status in (408, 409, 429) or (isinstance(status, int) and status >= 500)):
                    raise _NoAnswer(line) from None
                wait = _retry_after(error)
                wait = min(60, 2**turn) * random.uniform(0.5, 1) if wait is None else wait
                if turn == self.asker.retries or wait > LONGEST_WAIT:
                    raise _NoAnswer(f"{line} (after {turn + 1} calls)") from None
                with self.lock:
                    self.next_start = max(self.next_start, time.monotonic() + wait)
                self.said(f"{line}; going on in {wait:.1f} s")
        raise AssertionError("unreachable")

    def _wait_for_turn(self) -> None:
        pause = 60 / self.asker.per_minute if self.asker.per_minute else 0.0
        while not self.stopped.is_set():
            with self.lock:
                now = time.monotonic()
                if self.next_start <= now:
                    self.next_start = now + pause
                    self.calls += 1
                    return
                left = self.next_start - now
            self.stopped.wait(left)
        raise _NoAnswer("the run was stopped")


def without_keys(text: str) -> str:
    """A text in which the values of environment variables that look like secrets are blanked out.

    >>> without_keys("hello")
    'hello'
    """
    for name, value in os.environ.items():
        if len(value) >= 8 and re.search(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS)$", name.upper()):
            text = text.replace(value, "***")
    return text


def _litellm():
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # its table of prices as installed; nothing is fetched
    try:
        import litellm  # takes seconds, and only asking needs it
    except ImportError:
        raise InputError("Asking a language model needs litellm: pip install 'clipnb[llm]'") from None
    litellm.telemetry, litellm.suppress_debug_info, litellm.disable_hf_tokenizer_download = False, True, True
    return litellm


def _price(asker: Asker) -> tuple[float, float]:
    if asker.price is not None:
        return asker.price
    try:
        one, other = _litellm().cost_per_token(model=asker.model, prompt_tokens=1_000_000, completion_tokens=1_000_000)
    except InputError:
        raise
    except Exception:  # each provider's lookup fails in its own way
        raise InputError(
            f"No price is known for the model {asker.model!r}: give it in US dollars per million tokens, 0,0 for a local one"
        ) from None
    return float(one), float(other)


def _text(question: Question, count: int, template: str) -> str:
    return query(question.classname, question.rivals, count, question.category, template)


def _tokens(text: str) -> int:
    return len(text.encode()) // 3 + 16  # English has about four characters a token


def _cache_file(asker: Asker, text: str) -> Path:
    return Path(asker.cache) / (hashlib.sha256("\n".join((asker.model, text)).encode()).hexdigest()[:32] + ".json")


def _read(path: Path) -> str:
    try:
        answer = json.loads(path.read_text("utf-8"))["answer"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        answer = None
    if not isinstance(answer, str):
        raise InputError(f"Cannot read the cached answer {path}: delete it to ask again")
    return answer


def _retry_after(error: Exception) -> float | None:
    """Seconds that the server asks to wait; None if it does not say."""
    headers = (
        getattr(getattr(error, "response", None), "headers", None)
        or getattr(error, "litellm_response_headers", None)
        or {}
    )
    value = headers.get("retry-after") or ""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:  # the header's other form is a date
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
