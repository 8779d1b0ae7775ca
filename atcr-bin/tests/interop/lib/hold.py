"""`atcr-hold serve`: a hold on its own, in the network of an `atcr dev`."""

import json
import os

from lib import xrpc
from lib.process import Failed
from lib.service import Service, free_port


class Hold(Service):
    """A hold of one owner on a data directory, with a DID of one method (`web`, `plc`)."""

    def __init__(self, server, owner, data_dir, log, method, public_url=None, settings=None):
        super().__init__(log)
        self.server, self.owner, self.data_dir = server, owner, data_dir
        self.method, self.port = method, free_port()
        self.url = f"http://localhost:{self.port}"
        self.public_url = public_url or self.url
        self.settings = settings or {}

    def command(self):
        return [f"{os.path.dirname(self.server.atcr)}/atcr-hold", "serve"]

    def environment(self):
        return {
            "HOLD_SERVER_ADDR": f"127.0.0.1:{self.port}",
            "HOLD_SERVER_PUBLIC_URL": self.public_url,
            "HOLD_SERVER_TEST_MODE": "true",
            "HOLD_REGISTRATION_OWNER_DID": self.server.accounts[self.owner]["did"],
            "HOLD_DATABASE_PATH": self.data_dir,
            "HOLD_DATABASE_DID_METHOD": self.method,
            "HOLD_DATABASE_PLC_DIRECTORY_URL": self.server.ready["plc"],
            **self.settings,
        }

    def answers(self):
        try:
            self.did = json.loads(xrpc.query(self.url, "com.atproto.server.describeServer"))["did"]
            return True
        except Failed:
            return False
