import os
import signal
import subprocess
import sys

import pytest

from dreamer_h.train.lock import LogdirBusy, logdir_lock

HOLD = """
import sys, time
from dreamer_h.train.lock import logdir_lock
with logdir_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_and_a_killed_holder_frees_the_folder(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LogdirBusy, match=f"process {holder.pid}.*kill {holder.pid}"):
        with logdir_lock(tmp_path / "run"):
            pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with logdir_lock(tmp_path / "run"):
        pass


def test_the_lock_ends_with_the_block_and_names_the_new_holder(tmp_path):
    with pytest.raises(KeyError), logdir_lock(tmp_path):
        raise KeyError
    with logdir_lock(tmp_path), pytest.raises(LogdirBusy, match=f"process {os.getpid()};"):
        with logdir_lock(tmp_path):
            pass
