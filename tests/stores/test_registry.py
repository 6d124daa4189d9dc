"""How a URL finds its backend."""

import re
import subprocess
import sys

import pytest

from writeahead.errors import InvalidInput
from writeahead.stores import registry
from writeahead.stores.memory import MemoryStore
from writeahead.stores.registry import open_store


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package that offers a store, as pip would leave it behind."""

    def install(name: str, scheme: str, module: str) -> None:
        (tmp_path / f"{name}.py").write_text(module)
        metadata = tmp_path / f"{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[writeahead.stores]\n{scheme} = {name}:open_it\n")
        monkeypatch.delitem(sys.modules, name, raising=False)

    monkeypatch.syspath_prepend(tmp_path)
    return install


MODULE = """
from writeahead.stores.memory import MemoryStore

def open_it(url):
    assert url == "plug://host/path?x=1"
    return MemoryStore()
"""


def test_a_third_party_s_store_is_found_by_its_scheme(install):
    install("plug_a", "plug", MODULE)
    assert isinstance(open_store("plug://host/path?x=1"), MemoryStore)


def test_a_plug_in_can_t_take_a_built_in_scheme(install):
    install("plug_b", "memory", MODULE)
    assert open_store("memory://registry-test").name == "memory://registry-test"


def test_a_plug_in_is_listed_among_the_known_schemes(install):
    install("plug_c", "plug", MODULE)
    with pytest.raises(InvalidInput) as caught:
        open_store("gopher://x")
    listed = re.fullmatch(
        r"store gopher://\.\.\.: unknown scheme; known: (.+), or a folder's path", str(caught.value)
    )
    assert listed[1].split(", ") == sorted({"plug", *registry._BUILT_IN})


def test_two_plug_ins_for_one_scheme_are_refused(install):
    install("plug_d", "plug", MODULE)
    install("plug_e", "plug", MODULE)
    said = "store plug://...: more than one installed package offers it; uninstall all but one"
    with pytest.raises(InvalidInput, match=f"^{re.escape(said)}$"):
        open_store("plug://host/path?x=1")


def test_a_plug_in_that_can_t_be_loaded_is_named(install):
    install("plug_f", "plug", "import not_there_at_all")
    with pytest.raises(
        InvalidInput,
        match=r"^store plug://\.\.\.: module plug_f can't be imported: ModuleNotFoundError: No module",
    ):
        open_store("plug://host/path?x=1")


@pytest.mark.parametrize("missing", ["s3fs", "fsspec", "aiobotocore", "aiohttp", "botocore"])
def test_a_missing_extra_says_what_to_install(missing):
    program = f"""
import sys
sys.modules[{missing!r}] = None
from writeahead.errors import InvalidInput
from writeahead.stores.registry import open_store
try:
    open_store("s3://bucket")
except InvalidInput as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.count("\n") == 1
    assert 'pip install "writeahead[s3]"' in ended.stdout
    assert missing in ended.stdout


@pytest.mark.parametrize("url", ["s3://bucket?client=obstore", "gs://bucket", "az://container?account=me"])
def test_a_missing_obstore_says_what_to_install(url):
    program = f"""
import sys
sys.modules["obstore"] = None
from writeahead.errors import InvalidInput
from writeahead.stores.registry import open_store
try:
    open_store({url!r})
except InvalidInput as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.count("\n") == 1
    assert 'pip install "writeahead[obstore]"' in ended.stdout


def test_only_a_package_of_an_extra_is_said_to_be_missing(monkeypatch):
    """In this process, where changes of the code are noticed."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules, "writeahead.stores.s3", raising=False)
    with pytest.raises(InvalidInput) as caught:
        open_store("s3://bucket")
    assert str(caught.value) == (
        'store s3://...: s3fs is not installed; run: python -m pip install "writeahead[s3]"'
    )
    monkeypatch.setitem(registry._BUILT_IN, "memory", "not_there_at_all.below:from_url")
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        open_store("memory://x")


def test_a_package_of_a_package_of_an_extra_may_be_missing(install, monkeypatch):
    install("half", "plug", "import aiohttp.there_is_none_such")
    monkeypatch.setitem(registry._BUILT_IN, "memory", "half:open_it")
    with pytest.raises(InvalidInput, match="aiohttp is not installed"):
        open_store("memory://x")


def test_the_registry_loads_no_backend():
    program = """
import sys
import writeahead.stores.registry
clients = {"s3fs", "fsspec", "obstore", "httpx"}
backends = {"writeahead.stores.local", "writeahead.stores.memory"}
print(sorted(sys.modules.keys() & (clients | backends)))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_one_name_is_one_memory_store():
    one = open_store("memory://registry-test-one")
    assert open_store("memory://registry-test-one") is one
    assert open_store("memory://registry-test-two") is not one
    assert MemoryStore().put("a", b"1")
    assert list(MemoryStore().list()) == []
