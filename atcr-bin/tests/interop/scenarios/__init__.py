"""One module per scenario, each with a function `check`; `ALL` is their order."""

from scenarios import badinput, conformance, diskfull, kill9, memory, mount, records, restart, verify

ALL = [records, mount, verify, badinput, restart, kill9, diskfull, memory, conformance]
