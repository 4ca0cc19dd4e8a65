import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from clipnb import _runtime
from clipnb.errors import InputError

INTERRUPT = """
import os, signal, threading, time
from clipnb import _runtime

reached, stop = [], threading.Event()
for _ in range(8):  # the system may give them the signal
    threading.Thread(target=stop.wait).start()
before = signal.getsignal(signal.SIGINT)
try:
    with _runtime.interrupt_deferred():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        reached.append("the end")
except KeyboardInterrupt:
    reached.append("interrupted")
stop.set()
print(reached, signal.getsignal(signal.SIGINT) is before)
"""


def test_an_interrupt_is_delivered_at_the_end():
    """In a process of its own: a signal that a library takes up would end the process that runs all tests."""
    done = subprocess.run([sys.executable, "-c", INTERRUPT], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("['the end', 'interrupted'] True\n", 0), done.stderr


def test_a_gpu_computes_convolutions_in_fp32_and_a_cpu_leaves_the_setting_alone():
    convolutions = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    with _runtime.full_convolutions():
        assert convolutions.fp32_precision == "ieee"
    with _runtime.full_convolutions(False):
        assert convolutions.fp32_precision == before
    assert convolutions.fp32_precision == before


def test_logging_is_put_back_after_an_error():
    with pytest.raises(ZeroDivisionError), _runtime.quiet_loading():
        assert logging.root.manager.disable == logging.CRITICAL
        raise ZeroDivisionError
    assert logging.root.manager.disable < logging.CRITICAL


@pytest.mark.parametrize("before", [None, "False"])
def test_the_settings_of_litellm_are_put_back(monkeypatch, before):
    import litellm

    name = "LITELLM_LOCAL_MODEL_COST_MAP"
    monkeypatch.delenv(name, raising=False)
    if before is not None:
        monkeypatch.setenv(name, before)
    monkeypatch.setattr(litellm, "suppress_debug_info", "as it was")
    with _runtime.offline_litellm() as library:
        assert library.suppress_debug_info is True and os.environ.get(name) == before
    assert litellm.suppress_debug_info == "as it was"


def test_without_litellm_there_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(InputError, match=r"^Asking a language model needs litellm: pip install 'clipnb\[llm\]'$"):
        with _runtime.offline_litellm():
            pass


@pytest.mark.parametrize("running", [False, True])
def test_ray_is_stopped_only_where_it_was_started(running):
    events = []
    context = SimpleNamespace(enable_progress_bars=True)
    ray = SimpleNamespace(
        is_initialized=lambda: running,
        init=lambda **_: events.append("init"),
        shutdown=lambda: events.append("shutdown"),
        data=SimpleNamespace(DataContext=SimpleNamespace(get_current=lambda: context)),
    )
    with _runtime.ray_session(ray):
        assert context.enable_progress_bars is False
    assert context.enable_progress_bars is True and events == (["init"] if running else ["init", "shutdown"])


def test_importing_it_loads_no_heavy_library():
    code = (
        "import sys; from clipnb import _runtime; "
        "print([m for m in ('torch', 'transformers', 'litellm', 'ray') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
