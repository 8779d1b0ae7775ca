"""One module per scenario, each with a function `check`; `ALL` is their order."""

from scenarios import (badinput, conformance, cosign, diskfull, helm, kill9, memory, mount, notation, records, restart,
                       verify)

ALL = [records, mount, helm, notation, cosign, verify, badinput, restart, kill9, diskfull, memory, conformance]
