"""The only Python file that a served repository may hold."""

from __future__ import annotations

import hashlib

NAME = "model.py"
TEXT = '''"""Written by deploy/repository.py: what to run stands in config.pbtxt and in the files beside this one."""

from deploy.serving.backend import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''
SHA256 = hashlib.sha256(TEXT.encode()).hexdigest()
