"""`atcr-appview serve`: a registry on its own, between a PDS, a directory and a hold."""

import http.client
import os

from lib.service import Service, free_port


class AppView(Service):
    """A registry on a data directory; at `base_url`, else at its own address on loopback."""

    def __init__(self, server, hold, data_dir, log, base_url=None, settings=None):
        super().__init__(log)
        self.server, self.hold, self.data_dir = server, hold, data_dir
        self.address = f"127.0.0.1:{free_port()}"
        self.url = base_url or f"http://{self.address}"
        self.settings = settings or {}

    def command(self):
        return [f"{os.path.dirname(self.server.atcr)}/atcr-appview", "serve"]

    def environment(self):
        return {
            "ATCR_SERVER_ADDR": self.address,
            "ATCR_SERVER_BASE_URL": self.url,
            "ATCR_SERVER_DEFAULT_HOLD_DID": self.hold.did,
            "ATCR_SERVER_TEST_MODE": "true",
            "ATCR_AUTH_DATA_DIR": self.data_dir,
            "ATCR_IDENTITY_PLC_DIRECTORY_URL": self.server.ready["plc"],
            "ATCR_IDENTITY_HANDLE_RESOLVER_URL": self.server.ready["pds"],
            **self.settings,
        }

    def answers(self):
        connection = http.client.HTTPConnection(self.address, timeout=5)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == 401
        except OSError:
            return False
        finally:
            connection.close()
