"""One module per scenario, each with a function `check`; `ALL` is their order."""

from scenarios import (badinput, chromium, conformance, cosign, differential, diskfull, follow, helm, helper, kill9, memory,
                       mount, notation, oauth, pages, records, replicas, restart, signin, storage, verify)

ALL = [records, mount, helm, notation, cosign, verify, oauth, signin, chromium, pages, helper, differential, follow, badinput,
       restart, kill9, replicas, diskfull, storage, memory, conformance]
