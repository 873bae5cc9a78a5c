import importlib
import pkgutil

import drmguard


def test_public_names_survive_the_import_of_every_module():
    for module in pkgutil.walk_packages(drmguard.__path__, "drmguard."):
        importlib.import_module(module.name)
    for name in drmguard.__all__:
        assert callable(getattr(drmguard, name)), name


def test_unknown_names_are_attribute_errors():
    assert not hasattr(drmguard, "no_such_name")
