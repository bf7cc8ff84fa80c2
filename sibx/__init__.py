"""sibx: explain image classifiers, measure the explanations, and fine-tune the classifier to look at the object.

Public names stand in ``__init__.pyi`` and are loaded on first use: ``import sibx`` itself loads nothing heavy.
"""

import lazy_loader

__version__ = "0.2.0.dev0"  # here alone; the CHANGELOG's newest entry has it, too

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
