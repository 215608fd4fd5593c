"""Machines of a test: network namespaces on a bridge, each with its addresses and its resolver.

Nothing of it is seen from outside, and nothing leaves it: there is no way out but the bridge, which is a namespace too.
Names hold the process, so that workers run side by side, and what a process that was killed left is known and removed.
"""

import ctypes
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

PREFIX = "moltis-lab"
NETNS, ETC = Path("/run/netns"), Path("/etc/netns")
NET4, NET6 = "10.77.0", "fd77:6c61:62"
# Where nobody is: whoever sends there waits, as behind a firewall that drops.
HOLE = 250
CLONE_NEWNET = 0x40000000


class Machine:
    """One network namespace, with its addresses. Sockets of it are opened from any process."""

    def __init__(self, network: "Network", name: str, number: int):
        self.network, self.name, self.namespace = network, name, f"{network.name}-{name}"
        self.ipv4, self.ipv6 = f"{NET4}.{number}", f"{NET6}::{number}"
        self.command = ["ip", "netns", "exec", self.namespace]

    def open(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket of this machine: a socket keeps the namespace in which it was made, wherever it is used."""
        made: list = []

        def make() -> None:
            # Of this thread alone, which ends here.
            with (NETNS / self.namespace).open() as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
                    made.append(OSError(ctypes.get_errno(), f"setns {self.namespace}"))
                    return
            made.append(socket.socket(family, kind))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        made[0].setblocking(False)
        return made[0]

    def bound(self, port: int, address: str = "", kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket that is bound to an address of this machine, its IPv4 one where none is given."""
        address = address or self.ipv4
        bound = self.open(family_of(address), kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
        return bound

    def slow(self, rate: str | None, delay: str = "20s") -> None:
        """Lets at most so much through, each way, and keeps the rest until it may go; None: as fast as it gets."""
        for namespace, device in ((self.namespace, "eth0"), (self.network.bridge, self.name)):
            verb = ["replace" if rate else "del", "dev", device, "root"]
            run("tc", "-n", namespace, "qdisc", *verb, *(["tbf", "rate", rate, "burst", "4kb", "latency", delay] if rate else []))


class Network:
    def __init__(self):
        if os.geteuid() != 0:
            raise RuntimeError("Network namespaces need root: run tests/peers/run as root, or with sudo")
        remove_leftovers()
        self.name = f"{PREFIX}-{os.getpid()}"
        self.bridge = f"{self.name}-bridge"
        self.machines: dict[str, Machine] = {}
        run("ip", "netns", "add", self.bridge)
        batch(self.bridge, "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0", "link set br0 up")

    def add(self, name: str, number: int, resolver: str = f"{NET4}.2") -> Machine:
        machine = self.machines[name] = Machine(self, name, number)
        etc = ETC / machine.namespace
        etc.mkdir(parents=True)
        (etc / "resolv.conf").write_text(f"nameserver {resolver}\noptions timeout:2 attempts:2\n")
        (etc / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        (etc / "nsswitch.conf").write_text("hosts: files dns\n")
        run("ip", "netns", "add", machine.namespace)
        batch(self.bridge, f"link add name {name} type veth peer name eth0 netns {machine.namespace}",
              f"link set dev {name} master br0", f"link set dev {name} up")
        nowhere = "lladdr 02:00:00:00:00:01 dev eth0 nud permanent"
        batch(machine.namespace, "link set lo up", f"addr add {machine.ipv4}/24 dev eth0",
              f"addr add {machine.ipv6}/64 dev eth0 nodad", "link set eth0 up",
              f"neigh replace {NET4}.{HOLE} {nowhere}", f"neigh replace {NET6}::{HOLE} {nowhere}")
        return machine

    def part(self, *machines: Machine) -> None:
        """Nothing passes between these any more, and nobody is told; they still reach everyone else."""
        for machine in machines:
            run("bridge", "-n", self.bridge, "link", "set", "dev", machine.name, "isolated", "on")

    def heal(self, *machines: Machine) -> None:
        for machine in machines:
            run("bridge", "-n", self.bridge, "link", "set", "dev", machine.name, "isolated", "off")

    def close(self) -> None:
        remove(self.name)


def family_of(address: str) -> int:
    return socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def batch(namespace: str, *lines: str) -> None:
    done = subprocess.run(["ip", "-n", namespace, "-batch", "-"], input="\n".join(lines), capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ip in {namespace}: {done.stderr}\n{lines}")


def remove_leftovers() -> None:
    """Of processes that are gone."""
    for name in names():
        owner = name.removeprefix(f"{PREFIX}-").split("-")[0]
        if not Path(f"/proc/{owner}").exists():
            remove(f"{PREFIX}-{owner}")


def names() -> set[str]:
    return {path.name for folder in (NETNS, ETC) if folder.exists() for path in folder.glob(f"{PREFIX}-*")}


def remove(owner: str) -> None:
    """All that one process made, and whatever still runs there."""
    for name in (name for name in names() if name.startswith(f"{owner}-")):
        if (NETNS / name).exists():
            for process in run("ip", "netns", "pids", name).split():
                try:
                    os.kill(int(process), signal.SIGKILL)
                except ProcessLookupError:
                    pass  # it has ended just now
            run("ip", "netns", "del", name)
        shutil.rmtree(ETC / name, ignore_errors=True)
