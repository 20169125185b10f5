"""The SELinux module: what the daemon may do by it, what it may not, and what it does."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import PATIENCE_S, Client, SandboxVm, container, wait_until
from tests.install import policy as policies
from tests.install.conftest import BUILD_TIMEOUT_S
from tests.install.test_install import listens, run_a_process
from tests.install.traced import CALLS, Access, accesses

pytestmark = [pytest.mark.system, pytest.mark.timeout(BUILD_TIMEOUT_S)]

FILE_CLASSES = ("file", "dir", "lnk_file", "sock_file", "fifo_file", "chr_file", "blk_file")
WRITING = {
    *("append", "create", "link", "rename", "setattr", "unlink", "write"),
    *("add_name", "remove_name", "reparent", "rmdir", "relabelfrom", "relabelto", "mounton"),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return policies.build(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def policy(built):
    return built[1]


def test_it_compiles_without_a_warning(built):
    assert not re.search("warning|error|duplicate", built[0], re.I), built[0]


def test_the_domain_is_confined(policy):
    assert policy.types["cc_proxy_t"] == {"cc_proxy_t", "daemon", "domain"}
    assert "cc_proxy_t" not in "".join(policy.ask("seinfo", "--permissive", "-x"))


def test_the_init_system_starts_it_in_its_domain(policy):
    transitions = policy.ask("sesearch", "-T", "-t", "cc_proxy_exec_t", "-c", "process")
    # init_t is systemd, initrc_t is OpenRC's scripts; engines start it in pod mode.
    assert sorted(transitions) == [
        f"type_transition {starter} cc_proxy_exec_t:process cc_proxy_t;"
        for starter in ("an_engine_t", "init_t", "initrc_t")
    ]
    given = " ".join(policy.ask("sesearch", "-A", "-s", "init_t", "-t", "cc_proxy_t"))
    # The unit sets NoNewPrivileges=.
    assert "nnp_transition" in given
    # It makes the socket that it hands over.
    assert re.search(r"cc_proxy_t:unix_stream_socket \{[^}]* bind [^}]*create[^}]* listen ", given)
    runtime = ("-t", "cc_proxy_runtime_t", "-c", "sock_file")
    assert "create" in " ".join(policy.ask("sesearch", "-A", "-s", "init_t", *runtime))


@pytest.mark.parametrize(
    ("target", "object_class", "permissions"),
    [
        # Clients, on a socket of its own or one that systemd has made for it.
        ("cc_proxy_t", "unix_stream_socket", "create bind listen accept read write getopt"),
        ("cc_proxy_runtime_t", "sock_file", "create unlink link setattr"),
        ("cc_proxy_runtime_t", "dir", "create add_name remove_name search"),
        ("cc_proxy_runtime_t", "file", "create read write rename unlink"),
        # Hypervisors.
        ("cc_vm_runtime_t", "sock_file", "write"),
        ("cc_vm_runtime_t", "dir", "search add_name remove_name"),
        ("qemu_t", "unix_stream_socket", "connectto"),
        # Python.
        ("bin_t", "file", "read map execute"),
        ("lib_t", "file", "read map execute"),
        ("locale_t", "file", "read"),
        ("etc_t", "file", "read"),
        ("cc_proxy_conf_t", "file", "read"),
        # KSM.
        ("sysfs_t", "file", "read write"),
        ("proc_t", "file", "read"),
        ("sysctl_kernel_t", "file", "read"),
        # Logs, and the service manager.
        ("devlog_t", "sock_file", "write"),
        ("syslogd_t", "unix_dgram_socket", "sendto"),
        ("init_runtime_t", "sock_file", "write"),
        ("init_t", "unix_dgram_socket", "sendto"),
        ("init_t", "unix_stream_socket", "write getattr ioctl"),
        ("cc_proxy_tmpfs_t", "file", "create write read"),
        # What does not fit into memory.
        ("tmp_t", "dir", "write search"),
        ("cc_proxy_tmp_t", "file", "create read write unlink"),
    ],
)
def test_it_may_do_what_it_has_to(policy, target, object_class, permissions):
    assert set(permissions.split()) <= policy.allowed(target, object_class)


def test_it_may_read_no_secret(policy):
    for target in ("shadow_t", "user_home_t", "proc_kcore_t", "memory_device_t", "sshd_key_t"):
        for object_class in FILE_CLASSES:
            if target in policy.types:
                assert not policy.allowed(target, object_class), (target, object_class)


def test_it_has_no_capability(policy):
    classes = {rule.object_class for rule in policy.rules}
    assert not {each for each in classes if each.startswith("cap")}
    # Nor what comes with one.
    assert not classes & {"security", "system", "bpf", "perf_event", "key", "io_uring", "service"}


def test_it_runs_nothing_and_changes_no_code(policy):
    own = policy.allowed("cc_proxy_t", "process")
    assert not own & {"execmem", "execstack", "execheap", "ptrace", "setexec", "dyntransition"}
    for rule in policy.rules:
        assert "execute_no_trans" not in rule.permissions, rule
        assert "transition" not in rule.permissions, rule
        if "execmod" in rule.permissions:
            # For old libraries, allowed to all domains.
            assert rule[:2] == ("domain", "textrel_shlib_t")
        executable = rule.object_class == "file" and "execute" in rule.permissions
        assert not (executable and rule.permissions & (WRITING - {"setattr"})), rule


def test_it_writes_only_to_what_is_its_own(policy):
    own = {f"cc_proxy_{each}t" for each in ("", "runtime_", "tmp_", "tmpfs_")}
    # Directories of files that are; sockets of those that it connects to; KSM.
    shared = {"cc_vm_runtime_t", "tmp_t", "tmpfs_t", "var_run_t", "devlog_t", "init_runtime_t"}
    # And what those who start it hand over.
    given = {"sysfs_t", "init_t", "initrc_t", "init_tmpfs_t", "container_engine_domain"}
    for rule in policy.rules:
        writes = rule.object_class in FILE_CLASSES and rule.permissions & WRITING
        if writes and rule.object_class != "chr_file" and not rule.condition:
            assert rule.target in own | shared | given, rule
            if rule.target in shared:
                assert rule.object_class in {"dir", "sock_file"}, rule
    devices = {
        rule.target
        for rule in policy.rules
        if rule.object_class == "chr_file" and rule.permissions & WRITING and not rule.condition
    }
    assert devices <= {
        *("console_device_t", "devtty_t", "initrc_devpts_t", "null_device_t", "zero_device_t")
    }


def test_it_has_no_network_unless_that_is_switched_on(policy):
    network = re.compile(r"(tcp|udp|rawip|packet|icmp|sctp|dccp|vsock|netlink_\w+)_socket")
    for rule in policy.rules:
        if network.fullmatch(rule.object_class) and rule.condition != "cc_proxy_tcp":
            # What systemd may have opened for it, or labels on foreign packets.
            passed = rule.source == "daemon" and rule.target == "init_t"
            assert passed or rule.permissions <= {"recvfrom"}, rule
            assert not rule.permissions & {"create", "bind", "connect", "name_connect"}, rule
    assert policy.ask("seinfo", "--flat", "-x", "-b", "cc_proxy_tcp") == [
        "bool cc_proxy_tcp false;"
    ]


def test_metrics_get_one_kind_of_port_and_connect_nowhere(policy):
    on = "cc_proxy_tcp"
    assert {"create", "bind", "listen", "accept"} <= policy.allowed("cc_proxy_t", "tcp_socket", on)
    assert policy.allowed("cc_proxy_port_t", "tcp_socket", on) == {"name_bind"}
    assert policy.allowed("node_t", "tcp_socket", on) == {"node_bind"}
    for target in ("http_port_t", "unreserved_port_t", "reserved_port_t", "ssh_port_t"):
        assert not policy.allowed(target, "tcp_socket", on)


def test_unconfined_hypervisors_are_for_the_host_to_allow(policy):
    on = "cc_proxy_unconfined_vms"
    assert not policy.allowed("unconfined_t", "unix_stream_socket")
    assert policy.allowed("unconfined_t", "unix_stream_socket", on) == {"connectto"}
    assert policy.ask("seinfo", "--flat", "-x", "-b", on) == [f"bool {on} false;"]


def test_only_those_that_are_meant_to_may_connect(policy):
    rules = policy.ask(
        *("sesearch", "-A", "-t", "cc_proxy_t", "-c", "unix_stream_socket", "-p", "connectto")
    )
    sources = {rule.split()[1] for rule in rules}
    assert sources == {"cc_proxy_t", "unconfined_domain_type", "container_engine_domain"}, rules


def test_an_engine_runs_clients_and_hypervisors(policy):
    assert policy.allowed("an_engine_t", "unix_stream_socket") == {"connectto"}
    given = " ".join(policy.ask("sesearch", "-A", "-s", "an_engine_t", "-t", "cc_proxy_t"))
    # Protocol 1 passes descriptors.
    assert "cc_proxy_t:fd use;" in given
    sockets = ("-s", "an_engine_t", "-t", "cc_vm_runtime_t", "-c", "sock_file")
    assert "create" in " ".join(policy.ask("sesearch", "-A", *sockets))


def test_files_have_their_labels(policy):
    wanted = {
        ("/usr/libexec/clear-containers/cc-proxy", "file"): "cc_proxy_exec_t",
        ("/usr/local/libexec/clear-containers/cc-proxy", "file"): "cc_proxy_exec_t",
        ("/usr/lib/systemd/system/cc-proxy.service", "file"): "cc_proxy_unit_t",
        ("/usr/lib/systemd/system/cc-proxy.socket", "file"): "cc_proxy_unit_t",
        ("/usr/lib/cc-proxy/gevent/x.so", "file"): "lib_t",
        ("/etc/clear-containers/cc-proxy.conf", "file"): "cc_proxy_conf_t",
        ("/etc/clear-containers/configuration.toml", "file"): "etc_t",
        ("/run/clear-containers/proxy.sock", "socket"): "cc_proxy_runtime_t",
        ("/run/clear-containers/proxy.sock.ksm", "file"): "cc_proxy_runtime_t",
        ("/run/cc-oci-runtime/proxy.sock", "socket"): "cc_proxy_runtime_t",
        ("/run/virtcontainers/pods/p1/proxy.sock", "socket"): "cc_proxy_runtime_t",
        ("/run/virtcontainers/pods/p1/ctl.sock", "socket"): "cc_vm_runtime_t",
        ("/run/cc-proxy.pid", "file"): "cc_proxy_runtime_t",
    }
    labels = policy.types_of(dict(wanted.keys()))
    assert labels == {path: its for (path, _), its in wanted.items()}


# ---- against the daemon's real life


def places(installed: Path, directory: Path) -> list[tuple[str, str]]:
    """What the directories of a test stand for on a host; the first that fits counts."""
    return [
        (str(directory / "run"), "/run/clear-containers"),
        (str(directory / "vm"), "/run/virtcontainers/pods/p1"),
        (str(directory / "ksm"), "/sys/kernel/mm/ksm"),
        (str(directory / "tmp"), "/var/tmp"),
        (str(directory / "notify"), "/run/systemd/notify"),
        (str(directory), "/run"),
        (str(installed), "/usr"),
        (os.path.realpath(sys.base_prefix), "/usr"),
        ("/lib/", "/usr/lib/"),
        ("/lib64/", "/usr/lib64/"),
    ]


def on_a_host(path: str, stands_for: list[tuple[str, str]]) -> str:
    for ours, theirs in stands_for:
        if path.startswith(ours):
            return theirs + path.removeprefix(ours)
    return path


def trace(installed: Path, directory: Path) -> str:
    """What strace says of a daemon from its start to its end, with all that it does between."""
    for name, value in (("run", 0), ("pages_to_scan", 100), ("sleep_millisecs", 20)):
        (directory / "ksm").mkdir(exist_ok=True)
        (directory / "ksm" / name).write_text(f"{value}\n")
    (directory / "tmp").mkdir()
    path = directory / "run" / "proxy.sock"
    told = directory / "trace"
    calls = ",".join(f"?{call}" for call in CALLS)
    environment = {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(directory / "tmp"),
        "NOTIFY_SOCKET": str(directory / "notify"),
    }
    flags = (
        *("-log", "debug", "-ksm-root", directory / "ksm", "-session-buffer", "4K"),
        *("-pid-file", directory / "cc-proxy.pid"),
        *("-pprof", "-pprof-socket", directory / "run" / "debug.sock"),
    )
    program = installed / "libexec" / "clear-containers" / "cc-proxy"
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        manager.bind(environment["NOTIFY_SOCKET"])
        vms = [SandboxVm(directory / name) for name in ("vm1", "vm2")]
        for vm in vms:
            stack.callback(vm.stop)
        log = stack.enter_context(open(directory / "log", "wb"))
        tracer = subprocess.Popen(
            ["strace", "-f", "-y", "-s", "4096", "-e", f"trace={calls}", "-o", told]
            + [program, "-socket-path", path, *flags],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        stack.callback(tracer.wait)
        stack.callback(tracer.kill)
        wait_until(lambda: listens(path) or tracer.poll() is not None, "the daemon listens")
        assert tracer.poll() is None, (directory / "log").read_text()
        run_a_process(path, vms[0])
        spool_output(path, vms[1], lambda: f'"{directory}/tmp' in told.read_text())
        daemon = int(told.read_text().split(maxsplit=1)[0])
        os.kill(daemon, 15)
        assert tracer.wait(PATIENCE_S) == 0, (directory / "log").read_text()
    return told.read_text()


def spool_output(path: Path, vm: SandboxVm, spooled) -> None:
    """Run a process whose shim does not read until its output has gone to a file."""
    with Client(str(path)) as runtime, Client(str(path)) as shim:
        (token,) = runtime.register(vm, "c1", streams=1)
        shim.call(Command.CONNECT_SHIM, {"token": token})
        runtime.hyper("newcontainer", container("c1", "head", "-c", "4M", "/dev/zero"), token)
        wait_until(spooled, "output is spooled")
        assert shim.collect() == (bytes(4 << 20), b"", 0)
        runtime.unregister("c1")


def test_what_it_does_is_what_it_may_do(policy, installed, tmp_path):
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    stands_for = places(installed, tmp_path)
    needed = {
        access._replace(path=on_a_host(access.path, stands_for))
        for access in accesses(trace(installed, tmp_path))
    }
    types = types_of(policy, needed)
    refused = set()
    for access in needed:
        target = types[access.path]
        if access.permission not in policy.allowed(target, access.object_class):
            refused.add((*access, target))
    # The init system does that one.
    refused.discard(
        ("/usr/libexec/clear-containers/cc-proxy", "file", "execute_no_trans", "cc_proxy_exec_t")
    )
    # The daemon does without these, and the policy says that nobody need be told.
    quiet = ("sesearch", "--dontaudit", "-s", "cc_proxy_t", "-t", "cert_t", "-c", "file", "-p")
    assert not {each for each in refused if each[3] != "cert_t" or not policy.ask(*quiet, each[2])}
    # All that it was to do has been seen.
    seen = {(types[access.path], access.object_class, access.permission) for access in needed}
    assert seen >= {
        ("cc_proxy_runtime_t", "sock_file", "create"),
        ("cc_proxy_runtime_t", "file", "create"),
        ("cc_vm_runtime_t", "sock_file", "write"),
        ("init_runtime_t", "sock_file", "write"),
        ("sysfs_t", "file", "write"),
        ("proc_t", "file", "read"),
        ("cc_proxy_tmp_t", "file", "write"),
        ("lib_t", "file", "execute"),
    }


def types_of(policy, needed: set[Access]) -> dict[str, str]:
    """The type of each object, also of those whose type the kernel knows and no file says."""
    kinds = {"file": "file", "dir": "dir", "sock_file": "socket"}
    known = {"self": "cc_proxy_t", "memfd": "cc_proxy_tmpfs_t"}
    paths = {}
    for access in needed:
        path = access.path
        if path.startswith("/proc/sys/kernel/"):
            known[path] = "sysctl_kernel_t"
        elif re.match(r"/proc/(self|\d+)/", path):
            known[path] = "cc_proxy_t"
        elif path.startswith("/proc/"):
            known[path] = "proc_t"
        elif path.startswith("/var/tmp/"):
            known[path] = "cc_proxy_tmp_t"
        elif re.match(r"/run/[^/]*$", path) and access.permission != "write":
            # What it makes there has its label, whatever it is called at first.
            known[path] = "cc_proxy_runtime_t"
        elif path not in known:
            paths[path] = kinds[access.object_class]
    return policy.types_of(paths) | known
