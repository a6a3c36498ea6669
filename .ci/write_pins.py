"""Replaces `constraint-dependencies` in pyproject.toml with the requirement lines on standard input."""

import re
import sys
from pathlib import Path

path = Path("pyproject.toml")
pins = "".join(f'  "{line.strip()}",\n' for line in sys.stdin if line.strip())
text = re.sub(r"\nconstraint-dependencies = \[\n.*?\n\]\n", "\n", path.read_text(), flags=re.S)
if pins:
    text = text.replace("[tool.uv]\n", f"[tool.uv]\nconstraint-dependencies = [\n{pins}]\n", 1)
path.write_text(text)
