"""Resumes one session a round, at the moment that the parent gives; prints each report's status.

Arguments: store URL, remote URL. Standard input: a session id a line; each is resumed at once.
"""

import sys

from tests.support.reference_remote import ReferenceAdapter
from writeahead import RunPolicy, open_store, resume_session


def main():
    store_url, remote_url = sys.argv[1:]
    store = open_store(store_url)
    adapter = ReferenceAdapter(remote_url)
    print("ready", flush=True)
    for line in sys.stdin:
        report = resume_session(line.strip(), store=store, adapter=adapter, policy=RunPolicy())
        print(f"{report.status} {len(report.emitted)}", flush=True)


if __name__ == "__main__":
    main()
