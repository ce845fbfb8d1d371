"""Compares the address classifier of egress with an independent one, Python's `ipaddress`, over a million random addresses
that lean towards special networks and their edges.

    python3 tests/ssrf/addresses.py CLASSIFY [SEED]

CLASSIFY is the built example `classify`. `ipaddress` lets more pass than egress may: each network in which the two differ is
listed below with the reason, and there, as everywhere else, every single verdict has to be as expected. Standard library only.
"""

import collections
import ipaddress
import multiprocessing
import random
import subprocess
import sys

COUNT, PROCESSES = 1_000_000, 2

# Refused, although `is_global` may say otherwise; which of them do depends on Python's version.
STRICTER = {
    "168.63.129.16/32": "public by number, in fact the metadata service of a cloud",
    "192.0.0.0/24": "protocol assignments, of which single ones are globally reachable",
    "192.88.99.0/24": "6to4 relays",
    "224.0.0.0/4": "multicast",
    "2001::/23": "protocol assignments, of which single ones are globally reachable",
    "2002::/16": "6to4: an IPv4 address inside, never judged by it",
    "3fff::/20": "documentation since 2024",
    "::/3": "no unicast: IPv4 inside IPv6 and what is not assigned",
    "4000::/2": "not assigned, segment routing",
    "8000::/2": "not assigned",
    "c000::/2": "not assigned, local, site-local, multicast",
}
STRICTER = [(ipaddress.ip_network(net), why) for net, why in STRICTER.items()]
NAT64 = ipaddress.ip_network("64:ff9b::/96")
ISATAP = (0x0000_5EFE, 0x0200_5EFE)

# Where addresses are looked for: the networks of the registries for special purposes, and some public ones beside them.
SPECIAL = [ipaddress.ip_network(net) for net in """
    0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
    192.0.0.0/29 192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/31 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24
    192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 233.252.0.0/24
    240.0.0.0/4 255.255.255.255/32 8.8.8.0/24 ::/128 ::1/128 ::/96 ::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48
    100::/64 100:0:0:1::/64 2000::/3 2001::/32 2001:1::1/128 2001:1::2/128 2001:1::3/128 2001:2::/48 2001:3::/32
    2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20
    5f00::/16 fc00::/7 fd00:ec2::/32 fe80::/10 fec0::/10 ff00::/8 2606:4700::/32""".split()]
BY_VERSION = {4: [n for n in SPECIAL if n.version == 4], 6: [n for n in SPECIAL if n.version == 6]}


def near(dice, version):
    """An address in, at the edge of, or one bit away from a special network; or any at all."""
    bits = 32 if version == 4 else 128
    if dice.random() < 0.25:
        return dice.getrandbits(bits)
    net = dice.choice(BY_VERSION[version])
    first, last = int(net.network_address), int(net.broadcast_address)
    kind = dice.randrange(3)
    if kind == 0:
        return dice.randint(first, last)
    if kind == 1:
        return (dice.choice((first, last)) + dice.randint(-2, 2)) % (1 << bits)
    return dice.choice((first, last)) ^ (1 << dice.randrange(bits))


def some(dice):
    if dice.random() < 0.4:
        return ipaddress.IPv4Address(near(dice, 4))
    if dice.random() < 0.6:
        return ipaddress.IPv6Address(near(dice, 6))
    inner, rest = near(dice, 4), dice.getrandbits(64)
    return ipaddress.IPv6Address(dice.choice((
        inner,
        0xFFFF << 32 | inner,
        0xFFFF << 48 | inner,
        0x0064_FF9B << 96 | inner,
        0x0064_FF9B_0001 << 80 | rest >> 32 << 32 | inner,
        0x2002 << 112 | inner << 80 | rest,
        0x2001 << 112 | rest >> 32 << 64 | (inner ^ 0xFFFF_FFFF),
        near(dice, 6) >> 64 << 64 | dice.choice(ISATAP) << 32 | inner,
        near(dice, 6) >> 64 << 64 | dice.choice(ISATAP) + (1 << dice.randrange(30)) << 32 | inner,
    )))


def expected(ip):
    """Whether egress has to take it for public, and why that is not what `is_global` says."""
    if ip.version == 6 and ip in NAT64:
        return expected(ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF))[0], "NAT64: judged by the IPv4 address inside"
    for net, why in STRICTER:
        if ip.version == net.version and ip in net:
            return False, f"{net}: {why}"
    if ip.version == 6 and int(ip) >> 32 & 0xFFFF_FFFF in ISATAP:
        return False, "*:0:5efe:*, *:200:5efe:*: ISATAP, an IPv4 address inside"
    return ip.is_global, ""


def compare(classify, seed, part):
    dice = random.Random(f"{seed}/{part}")
    all_ = [some(dice) for _ in range(COUNT // PROCESSES)]
    asked = "".join(f"{ip}\n" for ip in all_)
    said = subprocess.run([classify], input=asked, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    assert len(said) == len(all_)
    wrong, public, differences = [], 0, collections.Counter()
    for ip, verdict in zip(all_, said):
        verdict = verdict == "1"
        right, why = expected(ip)
        public += verdict
        if verdict != right:
            wrong.append(f"{ip}: {verdict}, but {right} is right{' for ' if why else ''}{why}")
        elif verdict != ip.is_global:
            differences[why] += 1
    return wrong, public, differences


if __name__ == "__main__":
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().getrandbits(32)
    with multiprocessing.Pool(PROCESSES) as pool:
        parts = pool.starmap(compare, [(sys.argv[1], seed, part) for part in range(PROCESSES)])
    wrong = [line for part in parts for line in part[0]]
    public = sum(part[1] for part in parts)
    differences = sum((part[2] for part in parts), collections.Counter())
    print(f"{COUNT} addresses (seed {seed}), {public} of them public; stricter than ipaddress.is_global:")
    for why, count in differences.most_common():
        print(f"{count:8}  {why}")
    # A generator that misses what it is for proves nothing.
    assert public > COUNT // 10 and len(differences) >= 10, "too few of a kind"
    if wrong:
        sys.exit("\n".join([f"{len(wrong)} verdicts are wrong:", *wrong[:20]]))
