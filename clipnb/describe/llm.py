"""Ask a language model for descriptions, hosted or local, through litellm: cached, paced, within a ceiling of cost.

Keys come from the environment, where litellm looks for them; they are removed from everything that is stored or logged.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from clipnb import _runtime
from clipnb._checks import listed, real_number, text_of, whole_number
from clipnb._files import path_of, write_atomically
from clipnb._format import first_line
from clipnb.describe import QUERY, AnswerError, Descriptions, Question, check_answer, query
from clipnb.errors import InputError

MAX_WAIT = 600  # seconds; a server that asks for a longer pause is left alone until the next run


@dataclass(frozen=True)
class LLMSettings:
    """How to ask a language model: which one, where, how fast, and for how much.

    model: as litellm names it ("openai/gpt-4o-mini", "ollama/llama3.1").
    cache: folder of raw answers, one JSON file each; a query whose answer is there is not sent again.
    api_base: URL of a server of your own that speaks the OpenAI protocol; None: the provider's.
    price: US dollars per million tokens (in, out); None: from litellm's table.
    max_cost: ceiling in US dollars for all calls of a run.
    concurrency: largest number of calls at a time.
    per_minute: largest number of calls a minute; None: no limit.
    attempts: how often a class is asked until an answer can be used.
    retries: how often a failed call is repeated.
    timeout: seconds for one call.
    max_tokens: largest length of one answer.
    """

    model: str
    cache: Path
    api_base: str | None = None
    price: tuple[float, float] | None = None
    max_cost: float = 1.0
    concurrency: int = 4
    per_minute: float | None = None
    attempts: int = 3
    retries: int = 5
    timeout: float = 60.0
    max_tokens: int = 600

    def __post_init__(self) -> None:
        text_of(self.model, "model")
        path_of(self.cache, "cache")
        whole_number(self.concurrency, "concurrency", 1, 1000)
        whole_number(self.attempts, "attempts", 1, 100)
        whole_number(self.retries, "retries", 0, 100)
        whole_number(self.max_tokens, "max_tokens", 1, 10**6)
        _check_positive(self.timeout, "timeout")
        if self.per_minute is not None:
            _check_positive(self.per_minute, "per_minute")
        if not 0 <= real_number(self.max_cost, "max_cost") < 1e9:
            raise InputError(f"Expected `max_cost` >= 0, got {self.max_cost}")
        if self.price is not None:
            price = listed(self.price, "price", "two numbers")
            if len(price) != 2 or not all(0 <= real_number(part, "price") < 1e9 for part in price):
                raise InputError(f"Expected `price` as two numbers >= 0, in and out, got {self.price}")
        if self.api_base is not None and re.search(r"//[^/]*@", text_of(self.api_base, "api_base")):
            raise InputError("Expected `api_base` without a user name or password: keys come from the environment only")


@dataclass(frozen=True)
class Estimate:
    """The effort of a run: calls not in the cache, tokens (rough, rather too many), US dollars."""

    calls: int
    tokens_in: int
    tokens_out: int
    cost: float

    def __str__(self) -> str:
        return f"{self.calls} calls, up to {self.tokens_in} tokens in and {self.tokens_out} out, up to ${self.cost:.4f}"


@dataclass
class Answers:
    """The result of a run.

    by_class: {classname: usable descriptions}.
    refused: {classname: why its last answer cannot be used}.
    missing: {classname: why there is no answer}; the next run asks again.
    calls: number of calls of this run.
    cost: US dollars of this run.
    """

    by_class: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    calls: int = 0
    cost: float = 0.0

    def descriptions(self, settings: LLMSettings, template: str = QUERY) -> Descriptions:
        """The usable descriptions in the form that `load_descriptions` reads back."""
        return Descriptions(
            self.by_class,
            {
                "written_by": settings.model,
                "date": _now()[:10],
                "query": template,
                "reviewed": "By rule only (`describe.check_answer`); no person has reviewed them.",
            },
        )


def estimate(settings: LLMSettings, questions: Sequence[Question], count: int = 5, template: str = QUERY) -> Estimate:
    """The effort of a run if every first answer could be used; nothing is called.

    Args:
        settings: model, cache, pace and ceiling.
        questions: from `describe.questions`.
        count: how many descriptions to ask for.
        template: as for `describe.query`.

    Raises:
        InputError: litellm has no price for the model and `settings.price` is None.
    """
    whole_number(count, "count", 1)
    text_of(template, "template")
    texts = [_text(question, count, template) for question in listed(questions, "questions", "questions")]
    texts = [text for text in texts if not _cache_file(settings, text).exists()]
    tokens_in = sum(map(_tokens, texts))
    tokens_out = settings.max_tokens * len(texts)
    cost = 0.0
    if texts:
        with ExitStack() as stack:
            cost = _cost(settings, tokens_in, tokens_out, lambda: stack.enter_context(_runtime.offline_litellm()))
    return Estimate(len(texts), tokens_in, tokens_out, cost)


def ask(
    settings: LLMSettings,
    questions: Sequence[Question],
    count: int = 5,
    template: str = QUERY,
    allow_rivals: bool = False,
    too_long: Callable[[list[str]], Iterable[str]] | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Answers:
    """Ask about every class until its answer can be used (`describe.check_answer`), at most `settings.attempts` times.

    A call that fails for a temporary reason (429, 5xx, time-out) is repeated with growing pauses, or after the pause
    that the server asks for; meanwhile no other call starts. Every answer is cached before the next query is sent, so a
    run that was cut off resumes where it stopped, and a finished one calls nothing.

    Args:
        settings: model, cache, pace and ceiling.
        questions: from `describe.questions`.
        count: how many descriptions to ask for.
        template: as for `describe.query`.
        allow_rivals: whether a description may name a rival.
        too_long: as for `describe.check_answer`.
        log: called with one line for every pause and every unusable answer.

    Raises:
        InputError: litellm is not installed, no price is known, the estimate is above the ceiling, or the cache cannot
            be used.
    """
    expected = estimate(settings, questions, count, template)
    if expected.cost > settings.max_cost:
        raise InputError(
            f"Expected a cost of at most ${settings.max_cost:.4f}, estimated are {expected}; raise the ceiling or ask "
            "about fewer classes"
        )
    try:
        settings.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot use the folder {settings.cache} as a cache: {error.strerror}") from None
    answers = Answers()

    def ask_about(question: Question) -> None:
        text = base = _text(question, count, template)
        for attempt in range(1, settings.attempts + 1):
            try:
                answer = run.answer(text)
                answers.by_class[question.classname] = check_answer(answer, question, count, allow_rivals, too_long)
                return
            except _NoAnswer as error:
                answers.missing[question.classname] = str(error)
                return
            except AnswerError as error:
                reason = str(error)
                log(f"{question.classname!r}, answer {attempt}: {reason}")
                text = f"{base}\n\nYour answer number {attempt} cannot be used: {reason}. Answer again."
        answers.refused[question.classname] = reason

    with ExitStack() as stack:
        run = _Run(settings, log, stack)
        pool = ThreadPoolExecutor(settings.concurrency)
        try:
            list(pool.map(ask_about, questions))
        finally:
            run.stopped.set()
            pool.shutdown(cancel_futures=True)
    for name in ("by_class", "refused", "missing"):  # in the order of the questions, not of the answers
        part: dict[str, Any] = getattr(answers, name)
        setattr(answers, name, {q.classname: part[q.classname] for q in questions if q.classname in part})
    answers.calls = run.calls
    answers.cost = run.cost
    return answers


class _NoAnswer(Exception):
    """There is no answer in this run; the text says why."""


class _Run:
    """Pace, spending and cache of one run, shared by its threads; `stack` ends with the run."""

    def __init__(self, settings: LLMSettings, log: Callable[[str], None], stack: ExitStack) -> None:
        self.settings = settings
        self.log = log
        self.stack = stack
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.library: ModuleType | None = None
        self.next_start = 0.0
        self.calls = 0
        self.cost = 0.0
        self.promised = 0.0  # dollars that the calls under way may cost at most

    def answer(self, text: str) -> str:
        """The answer to a query, from the cache or from the language model."""
        path = _cache_file(self.settings, text)
        if path.exists():
            return _read(path)
        max_cost = self._cost(_tokens(text), self.settings.max_tokens)
        with self.lock:
            if self.cost + self.promised + max_cost > self.settings.max_cost:
                raise _NoAnswer(f"the ceiling of ${self.settings.max_cost:.4f} is reached")
            self.promised += max_cost
        spent = 0.0
        try:
            content, usage = self._call(text)
            spent = self._cost(usage["prompt_tokens"], usage["completion_tokens"]) if usage else max_cost
        finally:
            with self.lock:
                self.promised -= max_cost
                self.cost += spent
        entry = {
            "model": self.settings.model,
            "query": text,
            "date": _now(),
            "hash": path.stem,
            "answer": without_keys(content),
            "usage": usage,
        }
        write_atomically(path, (json.dumps(entry, ensure_ascii=False, indent=1) + "\n").encode())
        return entry["answer"]

    def _cost(self, tokens_in: int, tokens_out: int) -> float:
        return _cost(self.settings, tokens_in, tokens_out, self._litellm)

    def _litellm(self) -> ModuleType:
        with self.lock:
            if self.library is None:
                self.library = self.stack.enter_context(_runtime.offline_litellm())
            return self.library

    def _call(self, text: str) -> tuple[str, dict[str, int]]:
        """(content, tokens by kind) of one answer, after as many repeats as are allowed."""
        import tenacity  # of the extra `llm`, like litellm

        backoff = tenacity.wait_exponential_jitter(max=60)

        def pause(state: tenacity.RetryCallState) -> float:
            wait = _retry_after(state.outcome.exception() if state.outcome else None)
            return backoff(state) if wait is None else wait

        def hold(state: tenacity.RetryCallState) -> None:
            wait = state.upcoming_sleep
            with self.lock:
                self.next_start = max(self.next_start, time.monotonic() + wait)
            error = state.outcome.exception() if state.outcome else None
            if error is not None:
                self.log(f"{_described(error)}; continuing in {wait:.1f} s")

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_temporary),
            wait=pause,
            stop=lambda state: state.attempt_number > self.settings.retries or state.upcoming_sleep > MAX_WAIT,
            before=lambda state: self._wait_for_turn(),
            before_sleep=hold,
            sleep=lambda seconds: None,  # `_wait_for_turn` waits, for this call and for all others
            reraise=True,
        )
        try:
            return retrying(self._complete, text)
        except _NoAnswer:  # the run was stopped
            raise
        except Exception as error:  # litellm turns the errors of every provider into its own, all with a status
            calls = f" (after {retrying.statistics['attempt_number']} calls)" if _is_temporary(error) else ""
            raise _NoAnswer(_described(error) + calls) from None

    def _complete(self, text: str) -> tuple[str, dict[str, int]]:
        response = self._litellm().completion(
            model=self.settings.model,
            messages=[{"role": "user", "content": text}],
            max_tokens=self.settings.max_tokens,
            timeout=self.settings.timeout,
            api_base=self.settings.api_base,
            num_retries=0,
            max_retries=0,
            drop_params=True,
        )
        usage = getattr(response, "usage", None)
        kinds = ("prompt_tokens", "completion_tokens") if usage else ()
        return response.choices[0].message.content or "", {kind: int(getattr(usage, kind, 0) or 0) for kind in kinds}

    def _wait_for_turn(self) -> None:
        """Wait until the next call may start, and count it."""
        pause = 60 / self.settings.per_minute if self.settings.per_minute else 0.0
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


def _check_positive(value: float, name: str) -> None:
    if not 0 < real_number(value, name) < 1e9:
        raise InputError(f"Expected `{name}` > 0, got {value}")


def _cost(settings: LLMSettings, tokens_in: int, tokens_out: int, litellm: Callable[[], ModuleType]) -> float:
    """US dollars at the given price, or else by litellm's table."""
    if settings.price is not None:
        return (tokens_in * settings.price[0] + tokens_out * settings.price[1]) / 1e6
    library = litellm()
    try:
        return sum(library.cost_per_token(model=settings.model, prompt_tokens=tokens_in, completion_tokens=tokens_out))
    except Exception:  # the lookup fails in another way for each provider
        raise InputError(
            f"No price is known for the model {settings.model!r}: give it in US dollars per million tokens, "
            "0,0 for a local one"
        ) from None


def _text(question: Question, count: int, template: str) -> str:
    return query(question.classname, question.rivals, count, question.category, template)


def _tokens(text: str) -> int:
    return len(text.encode()) // 3 + 16  # English has about four characters a token


def _cache_file(settings: LLMSettings, text: str) -> Path:
    digest = hashlib.sha256(f"{settings.model}\n{text}".encode()).hexdigest()
    return Path(settings.cache) / f"{digest[:32]}.json"


def _read(path: Path) -> str:
    try:
        answer = json.loads(path.read_text("utf-8"))["answer"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        answer = None
    if not isinstance(answer, str):
        raise InputError(f"Cannot read the cached answer {path}: delete it to ask again")
    return answer


def _is_temporary(error: BaseException) -> bool:
    status = getattr(error, "status_code", None)
    return isinstance(status, int) and (status in (408, 409, 429) or status >= 500)


def _retry_after(error: BaseException | None) -> float | None:
    """Seconds that the server asks to wait; None if it does not say."""
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None) or getattr(error, "litellm_response_headers", None) or {}
    value = headers.get("retry-after") or ""
    with suppress(ValueError):
        return max(0.0, float(value))
    with suppress(TypeError, ValueError):  # the header's other form is a date
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    return None


def _described(error: BaseException) -> str:
    """An error in one line, without keys."""
    return f"{type(error).__name__}: {without_keys(first_line(error))}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def __getattr__(name: str) -> Any:
    if name == "Asker":
        warnings.warn("clipnb.describe.llm.Asker is now called LLMSettings", DeprecationWarning, stacklevel=2)
        return LLMSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
