"""Imports what costs seconds once, then forks a real process for every piece of code it is given.

Takes a model folder, to load it once: nnU-Net then imports all its trainers. Reads a JSON object per line:
``{"code": ..., "output": file}`` starts a process, which leads a group of its own, and answers its number;
``{"wait": number}`` answers its exit status, negative for a signal.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback

SECONDS = 120


def child(code: str, output: str) -> None:
    os.setsid()
    signal.alarm(SECONDS)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    status = 70
    try:
        exec(code, {})
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def answer(value: object) -> None:
    sys.stdout.write(f"{value}\n")
    sys.stdout.flush()


def serve(model: str) -> None:
    import torch
    from stub_network import install

    import nnunet_plugin.benchmark.settings  # noqa: F401
    from nnunet_plugin.benchmark.predictor import Ensemble

    torch.set_num_threads(1)
    Ensemble(model)
    install()
    answer("ready")
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]))
        elif pid := os.fork():
            answer(pid)
        else:
            child(request["code"], request["output"])


if __name__ == "__main__":
    serve(sys.argv[1])
