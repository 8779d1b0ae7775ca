"""Follows the event stream of one service from its beginning, over restarts of the service.

    follow.py --pds URL --plc URL --did DID [--handle HANDLE] [--cursor SEQ] [--map ORIGIN=URL]...

The goal comes as one line on standard input: `{"rev": REV, "acknowledged": FILE}`. Then all that was acknowledged must
have come exactly once, and what the events left must be what is exported. Prints `following` once events come, and in the
end one line of JSON.
"""

import argparse
import json
import sys
import threading

from events import Stream
from repository import Repository, must

LIMIT = 900


def main():
    options = argparse.ArgumentParser(description=__doc__)
    for name in ("--pds", "--plc", "--did"):
        options.add_argument(name, required=True)
    options.add_argument("--cursor", type=int, default=0)
    options.add_argument("--handle")
    options.add_argument("--map", action="append", default=[])
    options = options.parse_args()
    origins = dict(entry.split("=", 1) for entry in options.map)
    repository = Repository(options.pds, options.plc, options.did, origins, options.handle)
    goal = {}
    listening = threading.Thread(target=lambda: goal.update(json.loads(sys.stdin.readline())), daemon=True)
    listening.start()
    stream = Stream(repository, options.cursor)
    following = threading.Event()

    def reached():
        if stream.counts and not following.is_set():
            following.set()
            print("following", flush=True)
        return bool(goal) and stream.rev >= goal["rev"]

    connections = stream.follow(reached, LIMIT)
    with open(goal["acknowledged"]) as file:
        wanted = dict(line.split() for line in file)
    for rev, cid in wanted.items():
        must(stream.seen.get(rev) == cid, f"{rev} was acknowledged as {cid} and came as {stream.seen.get(rev)}")
    whole = repository.export()
    must(whole.rev == stream.rev and whole.data == stream.data, f"the export is at {whole.rev}")
    records = {path: cid.encode() for path, cid in whole.records().items()}
    must(records == stream.records, f"{len(records)} records, the events left {len(stream.records)}")
    print(json.dumps({"seq": stream.seq, "counts": stream.counts, "commits": len(stream.seen),
                      "acknowledged": len(wanted), "records": len(records), "connections": connections}))


if __name__ == "__main__":
    main()
