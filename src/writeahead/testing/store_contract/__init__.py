"""What every artifact store promises, as tests that a backend inherits.

The tests use a store's verbs, and look at the truth through a backdoor: the bytes around the store,
the requests on the wire, the system calls. They know no backend.
"""

from writeahead.testing.store_contract.backdoors import (
    FilesBackdoor,
    FolderBackdoor,
    ServedBackdoor,
    StoreBackdoor,
)
from writeahead.testing.store_contract.durability import Durability
from writeahead.testing.store_contract.false_answers import FalseAnswers
from writeahead.testing.store_contract.http_faults import HttpFaults
from writeahead.testing.store_contract.keys import Keys
from writeahead.testing.store_contract.links import Links
from writeahead.testing.store_contract.sharing import Sharing
from writeahead.testing.store_contract.verbs import Verbs

__all__ = ["FilesBackdoor", "FolderBackdoor", "ServedBackdoor", "StoreBackdoor", "StoreContract"]


class StoreContract(Verbs, Keys, Sharing, HttpFaults, FalseAnswers, Links, Durability):
    """The promises of `ArtifactStore`.

    A backend's tests subclass it, and give a fixture ``backdoor``::

        class TestLocalStore(StoreContract):
            impossible = {"wire": "no HTTP is spoken"}

            @pytest.fixture
            def backdoor(self, tmp_path):
                return Folder(tmp_path)      # a StoreBackdoor: new and empty for each test

    A backend that can't have something at all says so, with the reason, in ``impossible``; the
    tests of that part are then skipped with this reason. A part that is not declared is run. The
    parts are

    - ``processes``: one place for several processes;
    - ``fork``: an instance used on in a forked child;
    - ``streaming``: a listing in bounded memory;
    - ``wire``: an HTTP server behind the store, which can be made to fail; the place is a
      `ServedBackdoor`;
    - ``proof``: a server that answers success to anything, or redirects, is found out;
    - ``retries``: one failure that passes, such as a lost reply or a 503, is not even noticed;
    - ``links``: a file for each object, among which symbolic links can be planted; the place is a
      `FolderBackdoor`;
    - ``durability``: files on this machine, whose system calls can be traced; the place is a
      `FolderBackdoor` or a `FilesBackdoor`.

    What a verb may cost is in ``requests``, and how many objects a long listing has in
    ``listed_keys``.
    """
