"""One reader for the settings of all adapters: given first, then environment, then default."""

from typing import ClassVar

import pytest
from pydantic import Field, SecretStr, model_validator

from writeahead.adapters.dataverse.settings import DataverseSettings
from writeahead.adapters.settings import AdapterSettings, Text, WholeNumber, settings_model, takes
from writeahead.errors import InvalidInput


class CrmSettings(AdapterSettings):
    prefix: ClassVar[str] = "CRM_"
    code_only: ClassVar[frozenset[str]] = frozenset({"hook"})

    url: Text = Field(default="", description="text")
    secret: SecretStr = Field(default=SecretStr(""), description="text")
    most: WholeNumber = Field(default=7, description="a whole number above 0")
    hook: object = Field(default=None, description="a function")


@pytest.mark.parametrize(
    ("given", "environ", "url"),
    [
        ({"url": "given"}, {"CRM_URL": "from the environment"}, "given"),
        ({"url": None}, {"CRM_URL": "from the environment"}, "from the environment"),
        ({"url": ""}, {"CRM_URL": " padded "}, "padded"),
        ({}, {"CRM_URL": ""}, ""),
        ({}, {}, ""),
    ],
)
def test_what_is_given_precedes_the_environment(given, environ, url):
    assert CrmSettings.read(given, environ).url == url


@pytest.mark.parametrize("value", ["12", " 12 ", 12])
def test_whole_numbers(value):
    assert CrmSettings.read({"most": value}, {}).most == 12


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "1_0", "x", " ", "9" * 10, 1.0, True, 0, []])
def test_what_is_no_whole_number(value):
    with pytest.raises(InvalidInput, match=r"^(setting most|CRM_MOST) must be a whole number above 0$"):
        CrmSettings.read({"most": value}, {})
    if isinstance(value, str):
        with pytest.raises(InvalidInput, match=r"^CRM_MOST must be a whole number above 0$"):
            CrmSettings.read({}, {"CRM_MOST": value})


def test_code_only_settings_are_not_in_the_environment():
    assert CrmSettings.read({}, {"CRM_HOOK": "planted"}).hook is None
    assert DataverseSettings.read({}, {"DATAVERSE_TOKEN": "planted"}).token is None


def test_an_unknown_setting_is_named():
    with pytest.raises(InvalidInput, match=r"^there is no setting ulr; there are: url, secret, most, hook$"):
        CrmSettings.read({"ulr": "planted"}, {})


def test_what_is_missing_is_named_by_its_variable():
    settings = CrmSettings.read({"secret": SecretStr(" ")}, {})
    assert settings.require("url", "secret") == ("CRM_URL, CRM_SECRET not set: put them in the environment",)
    assert CrmSettings.read({"url": "x"}, {"CRM_SECRET": "y"}).require("url", "secret") == ()


@pytest.mark.parametrize("given", [{"secret": 7}, {"url": ["planted"]}, {"url": b"planted"}])
def test_no_value_is_in_an_error(given):
    [name] = given
    with pytest.raises(InvalidInput, match=name) as caught:
        CrmSettings.read(given, {"CRM_SECRET": "planted", "CRM_MOST": "planted"})
    assert "planted" not in str(caught.value)
    assert caught.value.__context__ is None
    shown = repr(CrmSettings.read({}, {"CRM_SECRET": "planted"}))
    assert "planted" not in shown


def test_a_secret_of_the_wrong_kind_says_where_it_belongs():
    with pytest.raises(InvalidInput, match="not for a settings file: put CRM_SECRET in the environment"):
        CrmSettings.read({"secret": 7}, {})


def test_settings_that_do_not_go_together_are_not_repeated():
    class Either(CrmSettings):
        @model_validator(mode="after")
        def _not_both(self):
            raise ValueError(f"not {self.url} and a secret")

    with pytest.raises(InvalidInput, match=r"^the settings CRM_... do not go together$") as caught:
        Either.read({"url": "planted"}, {})
    assert caught.value.__context__ is None


def test_the_origin_of_each_setting_is_its_variable_or_what_is_given():
    environ = {"CRM_URL": "x", "CRM_SECRET": "planted", "CRM_HOOK": "x", "CRM_MOST": ""}
    assert CrmSettings.origins({"url": "given", "most": None}, environ) == {
        "url": None,
        "secret": "CRM_SECRET",
    }
    assert CrmSettings.origins({"url": ""}, environ)["url"] == "CRM_URL"


def test_a_marked_factory_is_the_same_function_and_names_its_settings():
    def factory(url=""):
        return url

    assert settings_model(factory) is None
    assert takes(CrmSettings)(factory) is factory
    assert settings_model(factory) is CrmSettings
    assert factory(url="x") == "x"
