"""Micro-benchmarks of the codecs: how long one message takes, without any socket.

Run with pyperf, which `make bench-codecs` installs; each figure is the time for
1000 messages.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyperf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ccproxy_lib.state.input import Input, InputQueue
from ccproxy_lib.state.output import Output
from ccproxy_lib.wire import ctl, frames, payloads, tty
from ccproxy_lib.wire.ctl import Code, CtlParser
from ccproxy_lib.wire.frames import FrameParser, Stream, Type
from ccproxy_lib.wire.process import parse_process_start
from ccproxy_lib.wire.tty import TtyParser

COUNT = 1000
DATA = bytes(64)
FRAME = frames.encode(Type.STREAM, Stream.STDIN, DATA)
FRAMES = FRAME * COUNT
MESSAGE = memoryview(tty.encode(1, DATA))
MESSAGES = memoryview(bytes(MESSAGE) * COUNT)
ACK = ctl.encode(Code.ACK)
HYPER = b'{"hyperName":"ping"}'
START = b'{"id":"c1","process":{"args":["sh","-c","true"],"envs":[{"env":"A","value":"b"}]}}'


def frames_in_one_read() -> None:
    for _ in FrameParser().feed(FRAMES):
        pass


def frames_alone() -> None:
    parser = FrameParser()
    for _ in range(COUNT):
        parser.sole_stdin(FRAME)


def messages_in_one_read() -> None:
    for _ in TtyParser().feed(MESSAGES):
        pass


def messages_alone() -> None:
    parser = TtyParser()
    for _ in range(COUNT):
        parser.sole(MESSAGE)


def acks_alone() -> None:
    parser = CtlParser()
    for _ in range(COUNT):
        list(parser.feed(ACK))


def output_of_one_read() -> None:
    output = Output()
    for _ in range(COUNT):
        output.add(Stream.STDOUT, MESSAGE)
    output.batch()
    output.batch_sent()


def output_message_by_message() -> None:
    output = Output()
    for _ in range(COUNT):
        output.add(Stream.STDOUT, MESSAGE)
        output.batch()
        output.batch_sent()


def input_of_one_session() -> None:
    queue, target = InputQueue(), Input(1)
    for _ in range(COUNT):
        queue.push(target, DATA)
        queue.next_write(tty.MAX_TO_AGENT_BYTES)


def hyper_pings() -> None:
    for _ in range(COUNT):
        payloads.parse_hyper(HYPER)


def process_starts() -> None:
    text = START.decode()
    for _ in range(COUNT):
        parse_process_start(Code.NEW_CONTAINER, text).with_numbers(1, 2)


BENCHMARKS = (
    frames_in_one_read,
    frames_alone,
    messages_in_one_read,
    messages_alone,
    acks_alone,
    output_of_one_read,
    output_message_by_message,
    input_of_one_session,
    hyper_pings,
    process_starts,
)

if __name__ == "__main__":
    runner = pyperf.Runner()
    for benchmark in BENCHMARKS:
        runner.bench_func(benchmark.__name__.replace("_", " "), benchmark)
