"""A DNS server whose zones a test writes, on a machine of the lab; it can also fail, or say nothing."""

import asyncio
import socket

from dnslib import QTYPE, RCODE, RR, SOA, DNSError, DNSRecord

from namespaces import Machine

# Seconds that an answer may be kept: a test changes what it says.
TTL = 1
SILENT, SERVFAIL = "silent", "servfail"


class Nameserver:
    def __init__(self, machine: Machine):
        self.machine = machine
        self.asked: list[tuple[str, str]] = []  # (name, type)
        self.authentic = False  # whether it says that it has validated (the AD bit, RFC 4035, 3.2.3)
        self._zones: dict[str, list[RR]] = {}
        self._faults: dict[str, str] = {}
        self._transports: list = []

    async def start(self) -> "Nameserver":
        loop = asyncio.get_running_loop()
        udp = self.machine.bound(53, kind=socket.SOCK_DGRAM)
        self._transports.append((await loop.create_datagram_endpoint(lambda: Datagrams(self), sock=udp))[0])
        self._transports.append(await asyncio.start_server(self._connection, sock=self.machine.bound(53)))
        return self

    def stop(self) -> None:
        for transport in self._transports:
            transport.close()

    def zone(self, domain: str, *lines: str) -> None:
        """What there is under a domain, as in a zone file: owners are relative to it, targets are whole."""
        text = f"$ORIGIN {domain}.\n$TTL {TTL}\n" + "\n".join(lines) + "\n"
        self._zones[domain] = list(RR.fromZone(text, ttl=TTL))

    def fail(self, domain: str, how: str | None) -> None:
        """Questions under this domain get SERVFAIL, or no answer; None: they are answered again."""
        self._faults[domain] = how

    def mend(self) -> None:
        """Everything is answered again."""
        self._faults.clear()
        self.authentic = False
        self.asked.clear()

    def address(self, name: str) -> str:
        """Of a name, as clients look it up that live in the test's process."""
        for record in self._find(name.rstrip(".") + ".", "A"):
            if record.rtype == QTYPE.A:
                return str(record.rdata)
        raise LookupError(name)

    def answer(self, data: bytes) -> bytes | None:
        try:
            question = DNSRecord.parse(data)
        except DNSError:
            return None
        name, kind = str(question.q.qname).lower(), QTYPE[question.q.qtype]
        self.asked.append((name.rstrip("."), kind))
        reply = question.reply(aa=0, ra=1)
        if question.ar and question.ar[0].rtype == QTYPE.OPT:
            reply.add_ar(question.ar[0])
        fault = next((how for domain, how in self._faults.items() if under(name, domain)), None)
        if fault == SILENT:
            return None
        if fault == SERVFAIL:
            reply.header.rcode = RCODE.SERVFAIL
            return reply.pack()
        reply.header.ad = int(self.authentic)
        records = self._find(name, kind)
        reply.add_answer(*records)
        if not records:
            if not any(under(str(record.rname).lower(), name.rstrip(".")) for record in self._records()):
                reply.header.rcode = RCODE.NXDOMAIN
            # How long it may be remembered that there is nothing (RFC 2308, 5).
            reply.add_auth(RR(name, QTYPE.SOA, ttl=TTL, rdata=SOA("ns.example.", "root.example.", (1, 60, 60, 60, TTL))))
        return reply.pack()

    def _records(self) -> list[RR]:
        return [record for records in self._zones.values() for record in records]

    def _find(self, name: str, kind: str) -> list[RR]:
        own = [record for record in self._records() if str(record.rname).lower() == name]
        alias = next((record for record in own if record.rtype == QTYPE.CNAME), None)
        if alias is not None and kind != "CNAME":
            return [alias, *self._find(str(alias.rdata).lower(), kind)]
        return [record for record in own if QTYPE[record.rtype] == kind]

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(2))
                if (answer := self.answer(await reader.readexactly(size))) is not None:
                    writer.write(len(answer).to_bytes(2) + answer)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, nameserver: Nameserver):
        self.nameserver = nameserver

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address) -> None:
        if (answer := self.nameserver.answer(data)) is not None:
            self.transport.sendto(answer, address)


def under(name: str, domain: str) -> bool:
    name = name.rstrip(".")
    return name == domain or name.endswith(f".{domain}")
