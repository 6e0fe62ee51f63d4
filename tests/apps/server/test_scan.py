"""A scan of the HTTP part by its own description: whatever is sent, no answer is a 5xx."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from typing import Any

import pytest

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_no_request_makes_the_server_fail(server: Any) -> None:
    """Schemathesis tries the edges of every schema; answers are as the description has them."""
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("schemathesis is not installed: pip install '.[dev]'")
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]
    done = subprocess.run(
        [*command, f"{server.url}/openapi.json", "--phases", "coverage", "--max-examples", "1",
         "--exclude-path", "/whep/{id}", "--checks", CHECKS, "--no-color"],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    tried = re.search(r"(\d+) generated", done.stdout)
    assert tried and int(tried[1]) > 100, done.stdout[-1000:]
    for session in server.sessions:
        server.call(server.sessions.end, session, "the test is over")
