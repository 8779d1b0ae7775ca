"""Object storages of others as child processes, each with one bucket `blobs`.

What is not installed is not there; `.ci/install` brings Azurite, `.ci/install-storages` the others.
"""

import base64
import datetime
import hashlib
import hmac
import os
import secrets
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request

from lib.process import end, must
from lib.service import free_port

HERE = os.path.dirname(os.path.realpath(__file__))
BUCKET = "blobs"


class Storage:
    """Use as a context manager; `settings` are what a hold is told of it. It is ended by its own pid."""

    name = None

    def __init__(self, shell, directory):
        self.shell, self.directory, self.process = shell, directory, None
        self.port = free_port()
        os.makedirs(directory)

    @classmethod
    def available(cls):
        return bool(shutil.which(cls.name))

    def __enter__(self):
        self.process = self.start()
        try:
            self._answers(f"http://127.0.0.1:{self.ready_port()}/")
            self.make_bucket()
        except BaseException:
            end(self.process)
            raise
        return self

    def __exit__(self, *failure):
        end(self.process)

    def ready_port(self):
        return self.port

    def make_bucket(self):
        pass

    def _answers(self, url, timeout=60):
        deadline = time.monotonic() + timeout
        while True:
            try:
                return urllib.request.urlopen(url, timeout=5).close()
            except urllib.error.HTTPError:
                return None
            except OSError as problem:
                must(self.process.poll() is None, f"{self.name} ended; see {self.shell.log}")
                must(time.monotonic() < deadline, f"{self.name} did not become ready: {problem}")
                time.sleep(0.1)


class Azurite(Storage):
    name = "azurite"
    program = f"{HERE}/../storage/node_modules/azurite/dist/src/blob/main.js"
    account = "interop"

    @classmethod
    def available(cls):
        return os.path.exists(cls.program)

    def start(self):
        self.key = base64.b64encode(secrets.token_bytes(32)).decode()
        return self.shell.start(
            "node", self.program, "--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location", self.directory,
            "--silent", "--disableTelemetry", env={"AZURITE_ACCOUNTS": f"{self.account}:{self.key}"})

    def make_bucket(self):
        """By a signature of the account: create (c) containers (c) of the blob service (b)."""
        version = "2021-12-02"
        expiry = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5)
        query = {"sv": version, "ss": "b", "srt": "c", "sp": "c", "se": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"),
                 "spr": "https,http"}
        fields = [self.account, query["sp"], query["ss"], query["srt"], "", query["se"], "", query["spr"], version, "", ""]
        signature = hmac.digest(base64.b64decode(self.key), "\n".join(fields).encode(), hashlib.sha256)
        query |= {"sig": base64.b64encode(signature).decode(), "restype": "container"}
        url = f"http://127.0.0.1:{self.port}/{self.account}/{BUCKET}?{urllib.parse.urlencode(query)}"
        urllib.request.urlopen(urllib.request.Request(url, method="PUT", data=b""), timeout=10).close()

    def settings(self):
        return {
            "HOLD_STORAGE_DRIVER": "azure",
            "HOLD_STORAGE_BUCKET": BUCKET,
            "HOLD_STORAGE_ENDPOINT": f"http://127.0.0.1:{self.port}/{self.account}",
            "HOLD_STORAGE_ACCOUNT": self.account,
            "HOLD_STORAGE_ACCOUNT_KEY": self.key,
        }


class OfS3(Storage):
    region = "us-east-1"

    def settings(self):
        return {
            "HOLD_STORAGE_DRIVER": "s3",
            "HOLD_STORAGE_BUCKET": BUCKET,
            "HOLD_STORAGE_REGION": self.region,
            "HOLD_STORAGE_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "HOLD_STORAGE_ACCESS_KEY": self.id,
            "HOLD_STORAGE_SECRET_KEY": self.secret,
        }


class Garage(OfS3):
    name = "garage"
    region = "garage"

    def ready_port(self):
        return self.admin

    def start(self):
        # The forms that Garage wants of a key.
        self.id, self.secret = f"GK{secrets.token_hex(12)}", secrets.token_hex(32)
        self.admin = free_port()
        config = f"{self.directory}/garage.toml"
        with open(config, "w") as file:
            file.write(f"""\
metadata_dir = "{self.directory}/meta"
data_dir = "{self.directory}/data"
db_engine = "lmdb"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{free_port()}"
rpc_secret = "{secrets.token_hex(32)}"
[s3_api]
s3_region = "{self.region}"
api_bind_addr = "127.0.0.1:{self.port}"
[admin]
api_bind_addr = "127.0.0.1:{self.admin}"
admin_token = "{secrets.token_hex(16)}"
""")
        return self.shell.start("garage", "-c", config, "server", "--single-node", "--default-bucket", env={
            "GARAGE_DEFAULT_ACCESS_KEY": self.id, "GARAGE_DEFAULT_SECRET_KEY": self.secret,
            "GARAGE_DEFAULT_BUCKET": BUCKET, "RUST_LOG": "garage=warn"})


class S3sFs(OfS3):
    name = "s3s-fs"

    def start(self):
        self.id, self.secret = secrets.token_hex(10), secrets.token_hex(20)
        os.makedirs(f"{self.directory}/{BUCKET}")
        return self.shell.start("s3s-fs", "--host", "127.0.0.1", "--port", str(self.port), "--access-key", self.id,
                                "--secret-key", self.secret, self.directory)


ALL = [Azurite, Garage, S3sFs]
