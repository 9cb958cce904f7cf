#!/usr/bin/python3
"""Takes a lab down when its owner is gone, however it went: a signal, a panic, `kill -9`.

    guard.py CGROUP DIRECTORY PINS

The owner alone holds the other end of standard input; when that closes, every process in the cgroup is killed,
then cgroup, directory and pins are removed. Nothing is waited for by the clock.
"""

import os
import select
import shutil
import signal
import sys

for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(ignored, signal.SIG_IGN)

cgroup, directory, pins = sys.argv[1:]
print("guarding", flush=True)
while os.read(0, 4096):
    pass


def populated(events):
    events.seek(0)
    return "populated 1" in events.read()


try:
    with open(os.path.join(cgroup, "cgroup.events"), encoding="ascii") as events:
        with open(os.path.join(cgroup, "cgroup.kill"), "w", encoding="ascii") as kill:
            kill.write("1")
        # The kernel wakes whoever polls this file when its content changes: see cgroup-v2.rst, "Basic Operations".
        changed = select.poll()
        changed.register(events, select.POLLPRI)
        while populated(events):
            changed.poll()
    for path, _, _ in os.walk(cgroup, topdown=False):
        os.rmdir(path)
except OSError:
    # Another lab's sweep may have been faster.
    if os.path.exists(cgroup):
        raise
shutil.rmtree(directory, ignore_errors=True)
# What an agent left attached ends with its last pin.
shutil.rmtree(pins, ignore_errors=True)
