"""The README's Python example, as it stands there."""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[4] / "README.md"


def test_the_readme_example_runs(server, capsys):
    (example,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    changed = example.replace("http://127.0.0.1:8787", server.url).replace('api_key="…"', f'api_key="{server.key}"')
    assert server.url in changed and server.key in changed
    exec(compile(changed, str(README), "exec"), {})  # noqa: S102 - our own text
    printed = capsys.readouterr().out.split()
    assert "agent.tool_result" in printed and printed[-1] == "session.status_idle"
