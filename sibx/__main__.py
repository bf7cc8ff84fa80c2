"""``python -m sibx`` is the command ``sibx``; so ``torchrun -m sibx finetune ...`` works."""

import sys

from sibx.cli import main

sys.exit(main())
