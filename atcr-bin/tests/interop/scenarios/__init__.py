"""One module per scenario, each with a function `check`; `ALL` is their order."""

from scenarios import (badinput, conformance, cosign, differential, diskfull, follow, helm, kill9, memory, mount, notation,
                       oauth, records, restart, verify)

ALL = [records, mount, helm, notation, cosign, verify, oauth, differential, follow, badinput, restart, kill9, diskfull,
       memory, conformance]
