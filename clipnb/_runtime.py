"""Everything that changes the whole process, as context managers that put back what they changed."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import ModuleType
from typing import Any

from clipnb.errors import InputError

# Warnings that tell a user nothing: settings are chosen before loading, and a progress bar that is fixed by the
# environment stays as it is.
UNINFORMATIVE = ("QuickGELU mismatch", "Cannot (dis|en)able progress bars", ".*looks like a TorchScript archive")


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Hide the progress bars, logs and load reports of open_clip and Hugging Face; exceptions still come through.

    >>> with quiet_loading():
    ...     logging.getLogger("open_clip").isEnabledFor(logging.ERROR)
    False
    """
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as hf_logging

    disabled_level = logging.root.manager.disable
    verbosity = hf_logging.get_verbosity()
    loading_bar = hf_logging.is_progress_bar_enabled()
    hub_bars = not are_progress_bars_disabled()
    with warnings.catch_warnings():
        for text in UNINFORMATIVE:
            warnings.filterwarnings("ignore", message=text)
        logging.disable(logging.CRITICAL)
        hf_logging.set_verbosity_error()
        hf_logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.disable(disabled_level)
            hf_logging.set_verbosity(verbosity)
            if loading_bar:
                hf_logging.enable_progress_bar()  # this also switches the hub's bars, so they come last
            (enable_progress_bars if hub_bars else disable_progress_bars)()


@contextmanager
def interrupt_deferred() -> Iterator[None]:
    """Deliver Ctrl-C only at the end, so that it cannot end a worker process that has just started but not this one.

    A signal mask would not do: the system gives the signal to any thread without one. Workers that are forked here
    inherit the handler. In other threads than the main one nothing is deferred, since Python interrupts that one only.
    """
    if current_thread() is not main_thread():
        yield
        return
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        if caught:
            signal.raise_signal(signal.SIGINT)


def silence_worker(_worker: int) -> None:
    """Prepare a worker process, which lives for one run only: nothing needs to be put back.

    Ctrl-C reaches the whole process group; the parent stops its workers and reports it. Read errors are returned to the
    parent; the empty hook only hides the traceback of the pipe that breaks when the parent stops.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = lambda *_error: None


@contextmanager
def one_thread_each() -> Iterator[Any]:
    """Limit torch to one thread here; yields the function that does the same for each thread of a pool.

    torch also uses the last number that was set as the default for threads that start later, so it is put back.

    >>> import torch
    >>> before = torch.get_num_threads()
    >>> with one_thread_each():
    ...     torch.get_num_threads()
    1
    >>> torch.get_num_threads() == before
    True
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield lambda: torch.set_num_threads(1)
    finally:
        torch.set_num_threads(threads)


@contextmanager
def full_convolutions(wanted: bool = True) -> Iterator[None]:
    """Let a GPU compute fp32 convolutions in fp32, if `wanted`.

    torch permits cuDNN to round their inputs to TF32, which has 10 bits of mantissa: that moved the entries of
    clipnb-mini's vectors by up to 7e-4. Matrix products are not rounded unless a caller chooses it.

    >>> import torch
    >>> with full_convolutions():
    ...     torch.backends.cudnn.conv.fp32_precision
    'ieee'
    """
    if not wanted:  # a setting of the whole process, which threads on a CPU leave alone
        yield
        return
    import torch

    convolutions = getattr(torch.backends.cudnn, "conv", None)  # since torch 2.9
    place, name, full = torch.backends.cudnn, "allow_tf32", False
    if convolutions is not None:
        place, name, full = convolutions, "fp32_precision", "ieee"
    before = getattr(place, name)
    setattr(place, name, full)
    try:
        yield
    finally:
        setattr(place, name, before)


@contextmanager
def offline_litellm() -> Iterator[ModuleType]:
    """Import litellm with its installed table of prices, without telemetry, advertisements or downloads.

    Raises:
        InputError: litellm is not installed.
    """
    name = "LITELLM_LOCAL_MODEL_COST_MAP"  # litellm reads it when it is imported
    variable = os.environ.get(name)
    os.environ[name] = "True"
    try:
        import litellm  # takes seconds, and only asking a language model needs it
    except ImportError:
        raise InputError("Asking a language model needs litellm: pip install 'clipnb[llm]'") from None
    finally:
        if variable is None:
            del os.environ[name]
        else:
            os.environ[name] = variable
    settings = {"telemetry": False, "suppress_debug_info": True, "disable_hf_tokenizer_download": True}
    before = {name: getattr(litellm, name) for name in settings if hasattr(litellm, name)}
    for setting, value in settings.items():
        setattr(litellm, setting, value)
    try:
        yield litellm
    finally:
        for setting, value in before.items():
            setattr(litellm, setting, value)


@contextmanager
def ray_session(ray: ModuleType) -> Iterator[None]:
    """A running Ray without progress bars; one that was not running before is stopped at the end."""
    running = ray.is_initialized()
    ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    context = ray.data.DataContext.get_current()
    bars = context.enable_progress_bars
    context.enable_progress_bars = False
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        if not running:
            ray.shutdown()
