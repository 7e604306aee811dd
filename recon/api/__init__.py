"""What the command line does, one import away: `import recon`, and a workbench whose methods are its commands.

It holds no logic of its own: each method calls what the command of that name calls, and returns what that shows.
"""

from recon.api.frames import table
from recon.api.opening import Workbench, demo, draft, init, open, schema, scratch

__all__ = ["Workbench", "demo", "draft", "init", "open", "schema", "scratch", "table"]
