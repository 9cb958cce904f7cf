#!/usr/bin/python3
"""Takes a lab down when its owner has ended, however that happened: a signal, a panic, `kill -9`.

    guard.py CGROUP DIRECTORY PINS

The owner alone holds the other end of standard input. When that closes, the guard kills every process in the
cgroup, then removes the cgroup, the directory and the pins. It waits for events only, never for a time.
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
        # The kernel wakes pollers of this file when its content changes: cgroup-v2.rst, "Basic Operations".
        changed = select.poll()
        changed.register(events, select.POLLPRI)
        while populated(events):
            changed.poll()
    for path, _, _ in os.walk(cgroup, topdown=False):
        os.rmdir(path)
except OSError:
    # Another lab's sweep may have removed the cgroup in the meantime.
    if os.path.exists(cgroup):
        raise
shutil.rmtree(directory, ignore_errors=True)
# Programs that an agent left attached go with their last pin.
shutil.rmtree(pins, ignore_errors=True)
