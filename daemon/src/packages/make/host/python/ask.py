# Run by the interpreter that a package is made of: prints what it is, as JSON. Python 2.7 and 3.
import json
import os
import platform
import sys


def version():
    major, minor, micro, level, serial = sys.version_info[:5]
    label = {"alpha": "-alpha.%d", "beta": "-beta.%d", "candidate": "-rc.%d"}.get(level)
    return "%d.%d.%d" % (major, minor, micro) + (label % serial if label else "")


# In a virtual environment, the interpreter that it stands on.
program = getattr(sys, "_base_executable", None) or sys.executable
prefixes = [getattr(sys, "base_prefix", sys.prefix), getattr(sys, "base_exec_prefix", sys.exec_prefix)]
print(json.dumps({
    "implementation": platform.python_implementation(),
    "version": version(),
    "major": sys.version_info[0],
    "program": os.path.realpath(program),
    "prefixes": sorted(set(os.path.realpath(prefix) for prefix in prefixes)),
    # Without the site module these are the standard library's.
    "search": [path for path in sys.path if os.path.isabs(path) and os.path.exists(path)],
    "tag": getattr(getattr(sys, "implementation", None), "cache_tag", None),
}))
