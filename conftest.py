"""Makes the robustness options known from a checkout, under the same name as the installed entry point."""

pytest_plugins = ["robustness_tests.plugin"]
