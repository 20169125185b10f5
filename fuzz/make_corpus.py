#!/usr/bin/env python3
"""Write tests/corpus: small inputs by hand, valid and invalid, for each fuzz target.

The same files each time.  Their names begin with ``valid-`` or ``invalid-``, which
tests/test_corpus.py holds against what the target says.
"""

from __future__ import annotations

import shutil
import struct
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP))

from ccproxy_lib.wire import ctl, json, messages, tty  # noqa: E402 (needs the path)
from ccproxy_lib.wire.ctl import Code  # noqa: E402
from ccproxy_lib.wire.frames import Command, Stream, Type  # noqa: E402
from fuzz.script import CLOSE, DESCRIPTOR, DIE, GUEST_CTL, GUEST_IO, HALF_CLOSE, READ, client, token  # noqa: E402

CORPUS = TOP / "tests" / "corpus"
Files = dict[str, bytes]


def frame(type: int = 0, opcode: int = 0, payload: bytes = b"", **more: int) -> bytes:
    """Return a frame, any of whose header's fields may be wrong."""
    fields = {"version": 2, "words": 3, "reserved": 0, "length": len(payload)} | more
    head = struct.pack(
        ">HB3sBBI",
        fields["version"],
        fields["words"],
        fields["reserved"].to_bytes(3, "big"),
        type,
        opcode,
        fields["length"],
    )
    return head + bytes(max(0, fields["words"] * 4 - len(head))) + payload


def command(opcode: int, **members: object) -> bytes:
    """Return a command's frame."""
    return frame(Type.COMMAND, opcode, json.dumps(members))


def frames_files() -> Files:
    """Files for the frame parser."""
    return {
        "valid-empty": b"",
        "valid-attach": command(Command.ATTACH_VM, containerId="c1", numIOStreams=1),
        "valid-no-payload": frame(Type.COMMAND, Command.DISCONNECT_SHIM),
        "valid-long-header": frame(Type.STREAM, Stream.STDIN, b"abc", words=5),
        "valid-longest-header": frame(Type.STREAM, Stream.STDIN, b"abc", words=255),
        "valid-reserved-bits": frame(0xE2, Stream.STDIN, b"abc", reserved=0xFFFFFF),
        "valid-error-flag": frame(0x11, 3, b'{"msg":"no"}'),
        "valid-exited": frame(Type.NOTIFICATION, 0, b"\x07"),
        "valid-unknown-type": frame(15, 255, b"?"),
        "valid-many": frame(2, 0, b"a") + frame(2, 0) + frame(2, 1, b"b" * 50) + frame(0, 5),
        "valid-midway-header": frame(2, 0, b"a") + frame(2, 0, b"b")[:7],
        "valid-midway-payload": frame(2, 0, b"a") + frame(2, 0, b"bcd")[:13],
        "valid-at-the-limit": frame(2, 0, b"x" * 2048),
        "invalid-version-0": frame(version=0),
        "invalid-version-1": frame(version=1),
        "invalid-version-3": frame(version=3),
        "invalid-version-swapped": frame(version=0x0200),
        "invalid-one-byte": b"\x01",
        "invalid-words-0": frame(words=0),
        "invalid-words-1": frame(words=1),
        "invalid-words-2": frame(words=2),
        "invalid-over-the-limit": frame(2, 0, b"", length=2049),
        "invalid-length-2-31": frame(length=1 << 31),
        "invalid-length-2-32-1": frame(length=0xFFFFFFFF),
        "invalid-second": frame(2, 0, b"fine") + frame(2, 0, b"not", words=2),
        "invalid-text": b"GET / HTTP/1.1\r\n\r\n",
    }


def messages_files() -> Files:
    """Files for the parser of protocol 1's messages."""
    hello = messages.encode(b'{"id":"hello","data":{"containerId":"c1"}}')
    return {
        "valid-empty": b"",
        "valid-hello": hello,
        "valid-two": hello + messages.encode(b'{"id":"bye"}'),
        "valid-no-payload": messages.encode(b""),
        "valid-midway": hello[:20],
        "invalid-reserved": b"\0\0\0\x02\0\0\0\x01{}",
        "invalid-reserved-high-bit": b"\0\0\0\x02\x80\0\0\0{}",
        "invalid-over-the-limit": struct.pack(">II", 2049, 0),
        "invalid-length-2-32-1": b"\xff\xff\xff\xff\0\0\0\0",
        "invalid-version-2": frame(0, 0, b"{}"),
    }


def generation_files() -> Files:
    """Files for the detection of the protocol's version."""
    return {
        "valid-nothing": b"",
        "valid-version-2": frame(),
        "valid-version-1": messages.encode(b'{"id":"hello"}'),
        "valid-version-1-long": struct.pack(">II", 0x0001FFFF, 0),
        "valid-undecided": b"\0\0\0\x05",
        "invalid-first": b"\x01\0",
        "invalid-second": b"\0\x03\0\0\0\0\0\0",
        "invalid-reserved": b"\0\0\0\x05\0\0\0\x01",
        "invalid-reserved-early": b"\0\0\0\x05\x01",
        "invalid-text": b"hello",
    }


def ctl_files() -> Files:
    """Files for the control channel's parser."""
    return {
        "valid-empty": b"",
        "valid-ready": ctl.encode(Code.READY),
        "valid-ack": ctl.encode(Code.ACK, b"\0\0\x10\x92"),
        "valid-error": ctl.encode(Code.ERROR, b"no such container"),
        "valid-next-and-ack": ctl.encode(Code.NEXT, b"\0\0\0\x08") + ctl.encode(Code.ACK),
        "valid-event": ctl.encode(Code.PROCESS_ASYNC_EVENT, b'{"container":"c","event":"oom"}'),
        "valid-unknown-code": ctl.encode(0xFFFFFFFF, b"?"),
        "valid-midway": ctl.encode(Code.ACK, b"abcdef")[:11],
        "valid-at-the-limit": ctl.encode(Code.ACK, b"x" * 2040),
        "invalid-length-0": struct.pack(">II", Code.ACK, 0),
        "invalid-length-7": struct.pack(">II", Code.ACK, 7),
        "invalid-over-the-limit": struct.pack(">II", Code.ACK, 2049),
        "invalid-length-2-32-1": struct.pack(">II", Code.ACK, 0xFFFFFFFF),
        "invalid-second": ctl.encode(Code.READY) + struct.pack(">II", Code.ACK, 1),
    }


def tty_files() -> Files:
    """Files for the I/O channel's parser."""
    return {
        "valid-empty": b"",
        "valid-output": tty.encode(1, b"hello"),
        "valid-exit": tty.encode(1, b"bye") + tty.encode(1) + tty.encode(1, b"\x07"),
        "valid-largest-seq": tty.encode((1 << 64) - 1, b"x"),
        "valid-many": b"".join(tty.encode(n % 3 + 1, b"%d" % n * n) for n in range(20)),
        "valid-midway-header": tty.encode(1, b"a") + tty.encode(2, b"b")[:5],
        "valid-midway-data": tty.encode(1, b"a") + tty.encode(2, b"bcd")[:13],
        "valid-at-the-limit": tty.encode(1, b"x" * 2036),
        "invalid-length-0": struct.pack(">QI", 1, 0),
        "invalid-length-11": struct.pack(">QI", 1, 11),
        "invalid-over-the-limit": struct.pack(">QI", 1, 2049),
        "invalid-length-2-32-1": struct.pack(">QI", 1, 0xFFFFFFFF),
        "invalid-second": tty.encode(1, b"fine") + struct.pack(">QI", 1, 3),
    }


def lines_files() -> Files:
    """Files for the console's splitter, to which all bytes are valid."""
    return {
        "valid-empty": b"",
        "valid-two": b"one\ntwo\r\n",
        "valid-no-end": b"login: ",
        "valid-long": b"x" * 200 + b"\n" + b"y" * 90,
        "valid-ends-only": b"\n\r\n\n\r\r\n",
        "valid-not-text": bytes(range(256)),
        "valid-cut-character": "ä€𝄞".encode() * 20,
    }


def json_files() -> Files:
    """Files for the reader of JSON."""
    return {
        "valid-object": b'{"a":1,"b":[true,false,null],"c":{"d":"e"}}',
        "valid-nothing-in-it": b" { \n } ",
        "valid-escapes": b'{"\\u0061\\n\\"":"\\ud834\\udd1e\\/"}',
        "valid-lone-surrogate": b'{"a":"\\ud800"}',
        "valid-numbers": b'{"a":-0,"b":1e99,"c":0.1E-5,"d":123456789012345678}',
        "valid-twice": b'{"a":1,"A":2,"a":3}',
        "valid-blanks": b'{\t"a"\r\n:\n[ 1 , 2 ] }',
        "valid-brackets-in-text": b'{"a":"[[[{{{\\"[["}',
        "valid-deep": b'{"a":' + b"[" * 99 + b"]" * 99 + b"}",
        "valid-long-s": '{"\u017ftdio":0}'.encode(),
        "invalid-no-object": b"[1,2]",
        "invalid-too-deep": b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
        "invalid-much-too-deep": b"[" * 300,
        "invalid-nan": b'{"a":NaN}',
        "invalid-infinity": b'{"a":-Infinity}',
        "invalid-cut": b'{"a":"b',
        "invalid-comma": b'{"a":1,}',
        "invalid-utf-8": b'{"a":"\xff"}',
        "invalid-surrogate-bytes": b'{"a":"\xed\xa0\x80"}',
        "invalid-trailing": b'{"a":1}{}',
        "invalid-name": b"{a:1}",
        "invalid-zero": b'{"a":01}',
        "invalid-text": b"hello",
    }


def payloads_files() -> Files:
    """Files for the payloads; the first byte chooses which."""
    register = (
        b'{"containerId":"c1","ctlSerial":"/c","ioSerial":"/i","numIOStreams":2,"console":""}'
    )
    return {
        "valid-register": b"\0" + register,
        "valid-register-case": b'\0{"CONTAINERID":"c","ctlserial":"c","IOSerial":"i","x":[]}',
        "valid-unregister": b'\x01{"containerId":"c1"}',
        "valid-attach": b'\x02{"containerId":"c1","numIOStreams":null}',
        "valid-hyper": b'\x03{"hyperName":"ping"}',
        "valid-hyper-tokens": b'\x03{"hyperName":"newcontainer","tokens":["t"],"data":{"id":"c"}}',
        "valid-hyper-null": b'\x03{"hyperName":"x","tokens":null,"data":null}',
        "valid-connect": b'\x04{"token":"t"}',
        "valid-signal": b'\x05{"signalNumber":15}',
        "valid-signal-size": b'\x05{"signalNumber":28,"columns":80,"rows":24}',
        "valid-log": b'\x06{"source":"shim","level":"info","msg":"hello"}',
        "valid-request": b'\x07{"id":"hello","data":{"containerId":"c1"}}',
        "invalid-register-empty": b"\0",
        "invalid-register-types": b'\0{"containerId":1,"ctlSerial":[],"ioSerial":{}}',
        "invalid-register-negative": b"\0" + register.replace(b"2", b"-1"),
        "invalid-attach-fraction": b'\x02{"containerId":"c1","numIOStreams":1.5}',
        "invalid-attach-true": b'\x02{"containerId":"c1","numIOStreams":true}',
        "invalid-hyper-tokens": b'\x03{"hyperName":"x","tokens":[1]}',
        "invalid-hyper-data-twice": b'\x03{"hyperName":"x","data":{},"Data":{}}',
        "invalid-signal-31": b'\x05{"signalNumber":31}',
        "invalid-signal-large": b'\x05{"signalNumber":99999999999999999999999999}',
        "invalid-signal-no-size": b'\x05{"signalNumber":28}',
        "invalid-signal-size": b'\x05{"signalNumber":15,"columns":80,"rows":24}',
        "invalid-log-source": b'\x06{"source":"moon","level":"info"}',
        "invalid-log-level": b'\x06{"source":"shim","level":"loud"}',
        "invalid-request-id": b"\x07{}",
        "invalid-request-data": b'\x07{"id":"hello","data":[]}',
        "invalid-request-json": b"\x07{",
    }


def process_files() -> Files:
    """Files for what starts a process: newcontainer, or execcmd behind a first byte of 1."""
    return {
        "valid-newcontainer": b'\0{"id":"c","rootfs":"/","process":{"args":["sh"],"workdir":"/"}}',
        "valid-execcmd": b'\x01{"container":"c","process":{"args":["sh"]}}',
        "valid-terminal": b'\0{"id":"c","process":{"terminal":true,"stdio":0,"stderr":0}}',
        "valid-numbers-null": b'\0{"process":{"stdio":null,"args":[],"stderr":null}}',
        "valid-nothing-in-it": b'\0{"process":{ }}',
        "valid-case": b'\0{"PROCESS":{"Stdio":0,"STDERR":0,"Terminal":false}}',
        "valid-escaped-name": b'\0{"process":{"\\u0073tdio":0}}',
        "valid-unknown-members": b'\0{"process":{"x":1e400,"y":[{"stdio":9}]},"stdio":5}',
        "valid-long-s": '\0{"proce\u017fs":{"\u017ftdio":0}}'.encode(),
        "invalid-no-process": b'\0{"id":"c"}',
        "invalid-process-text": b'\0{"process":"{"}',
        "invalid-stdio": b'\0{"process":{"stdio":5}}',
        "invalid-stdio-fraction": b'\0{"process":{"stdio":0.0}}',
        "invalid-terminal": b'\0{"process":{"terminal":1}}',
        "invalid-process-twice": b'\0{"process":{},"Process":{}}',
        "invalid-stdio-twice": b'\0{"process":{"stdio":0,"Stdio":0}}',
        "invalid-terminal-twice": b'\0{"process":{"terminal":true,"terminal":false}}',
        "invalid-nothing": b"\0",
    }


def connection_files() -> Files:
    """Scripts for whole conversations; see fuzz/script.py."""
    register = command(
        Command.REGISTER_VM, containerId="c1", ctlSerial="ctl", ioSerial="io", numIOStreams=2
    )
    process = {"args": ["x"], "workdir": "/"}
    start = command(
        Command.HYPER,
        hyperName="newcontainer",
        tokens=[token(0)],
        data={"id": "c", "process": process},
    )
    execute = command(
        Command.HYPER,
        hyperName="execcmd",
        tokens=[token(1)],
        data={"container": "c", "process": process | {"terminal": True}},
    )
    connect = command(Command.CONNECT_SHIM, token=token(0))
    connect_second = command(Command.CONNECT_SHIM, token=token(1))
    disconnect = frame(Type.COMMAND, Command.DISCONNECT_SHIM)
    stdin = frame(Type.STREAM, Stream.STDIN, b"hello")
    end_of_stdin = frame(Type.STREAM, Stream.STDIN)
    kill = command(Command.SIGNAL, signalNumber=9)
    hangup = command(Command.SIGNAL, signalNumber=1)
    resize = command(Command.SIGNAL, signalNumber=28, columns=80, rows=24)
    unregister = command(Command.UNREGISTER_VM, containerId="c1")
    running = register + client(1) + connect + client(0) + start
    log_entry = frame(Type.STREAM, Stream.LOG, b'{"source":"runtime","level":"info","msg":"m"}')
    hello = messages.encode(
        b'{"id":"hello","data":{"containerId":"c1","ctlSerial":"ctl","ioSerial":"io"}}'
    )
    attach = messages.encode(b'{"id":"attach","data":{"containerId":"c1"}}')
    allocate = messages.encode(b'{"id":"allocateIO","data":{"nStreams":2}}')
    start_v1 = messages.encode(
        b'{"id":"hyper","data":{"hyperName":"newcontainer","data":{"id":"c","process":'
        b'{"args":["x"],"stdio":1,"stderr":2}}}}'
    )
    return {
        "nothing": b"",
        "register": register + unregister,
        "register-twice": register + register,
        "whole-life": running
        + client(1)
        + stdin
        + resize
        + end_of_stdin
        + READ
        + disconnect
        + client(0)
        + unregister
        + READ,
        "two-processes": running
        + client(2)
        + connect_second
        + client(0)
        + execute
        + client(2)
        + stdin
        + hangup
        + end_of_stdin,
        "early-input": register
        + client(1)
        + connect
        + stdin
        + hangup
        + resize
        + end_of_stdin
        + client(0)
        + start,
        "killed-before-start": register + client(1) + connect + stdin + kill + READ,
        "shim-comes-back": running
        + client(1)
        + stdin
        + CLOSE
        + GUEST_IO
        + tty.encode(1, b"kept")
        + client(2)
        + connect
        + READ,
        "shim-half-closes": running + client(1) + end_of_stdin + HALF_CLOSE + READ,
        "shim-half-closes-and-goes": running + client(1) + HALF_CLOSE + CLOSE + client(2) + connect,
        "two-shims": register + client(1) + connect + client(2) + connect,
        "start-without-shim": register + start,
        "runtime-vanishes": register + client(1) + connect + client(0) + start + CLOSE,
        "no-token": register
        + command(Command.HYPER, hyperName="execcmd", data={"container": "c", "process": process})
        + GUEST_IO
        + tty.encode(1)
        + tty.encode(1, b"\x05"),
        "unregister-while-running": running + unregister + client(1) + end_of_stdin + READ,
        "unregister-before-start": register + client(1) + connect + client(0) + unregister,
        "vm-dies": running + DIE + client(1) + READ,
        "guest-exits": running
        + GUEST_IO
        + tty.encode(1)
        + tty.encode(1, b"\x05")
        + client(1)
        + READ,
        "guest-garbage": running + GUEST_IO + b"\0" * 12,
        "guest-ctl-garbage": running + GUEST_CTL + ctl.encode(42),
        "guest-event": running + GUEST_CTL + ctl.encode(Code.PROCESS_ASYNC_EVENT, b"{}"),
        "uncalled-answer": running + GUEST_CTL + ctl.encode(Code.ACK, b"?"),
        "no-vm": command(Command.HYPER, hyperName="ping") + connect + kill + disconnect,
        "swapped-channels": register.replace(b'"ctl"', b'"io" '),
        "log-entry": log_entry + register + log_entry,
        "unknown-opcode": frame(0, 99),
        "unknown-type": frame(9, 0),
        "words-2": register + frame(words=2),
        "huge": frame(0, 3, length=0xFFFFFFFF),
        "half-a-frame": register[:30] + HALF_CLOSE,
        "stdin-of-a-runtime": register + stdin,
        "v1-whole-life": hello + allocate + start_v1 + READ + messages.encode(b'{"id":"bye"}'),
        "v1-attach": hello + client(1) + attach + allocate + CLOSE,
        "v1-descriptor": hello
        + allocate
        + start_v1
        + DESCRIPTOR
        + tty.encode(1, b"hello")
        + tty.encode(1)
        + CLOSE,
        "v1-descriptor-closed": hello
        + allocate
        + DESCRIPTOR
        + client(0)
        + allocate
        + DESCRIPTOR
        + b"\0" * 12,
        "v1-reserved": messages.encode(b"{}").replace(b"\0\0\0\0", b"\0\0\0\x01"),
    }


MAKERS = {
    "frames": frames_files,
    "messages": messages_files,
    "generation": generation_files,
    "ctl": ctl_files,
    "tty": tty_files,
    "lines": lines_files,
    "json": json_files,
    "payloads": payloads_files,
    "process": process_files,
    "connection": connection_files,
}


def main() -> None:
    """Write all files, and remove those that are no longer made."""
    shutil.rmtree(CORPUS, ignore_errors=True)
    for target, make in MAKERS.items():
        directory = CORPUS / target
        directory.mkdir(parents=True)
        for name, data in make().items():
            (directory / name).write_bytes(data)


if __name__ == "__main__":
    main()
