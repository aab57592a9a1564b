"""Root conftest: pytester for the plugin's own tests (pytest takes ``pytest_plugins`` only here)."""

pytest_plugins = ["pytester"]
